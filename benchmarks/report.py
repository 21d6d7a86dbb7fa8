"""The form of every benchmark's result: figures, baseline, ratios, budget, and under which conditions."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import edgeagent


@dataclass
class Report:
    """One run. Names carry their unit (``pss_10_pods_mb``); ``within`` says which budgets held."""

    name: str
    figures: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def ratio(self, name: str, figure: str, baseline: str) -> None:
        """Note how many times ``baseline`` the ``figure`` is."""
        self.ratios[name] = self.figures[figure] / self.baseline[baseline]

    def limit(self, name: str, value: float) -> None:
        """The figure or ratio ``name`` should be at most ``value``."""
        self.budget[name] = value

    def within(self) -> dict[str, bool]:
        """Of each budget, whether it held."""
        measured = {**self.figures, **self.ratios}
        return {name: measured[name] <= value for name, value in self.budget.items()}

    def as_json(self) -> str:
        """One object, as later runs are compared with."""
        return json.dumps(
            {
                "benchmark": self.name,
                "figures": _rounded(self.figures),
                "baseline": _rounded(self.baseline),
                "ratios": _rounded(self.ratios),
                "budget": self.budget,
                "within": self.within(),
                "notes": self.notes,
                "conditions": conditions(),
            },
            indent=2,
        )

    def as_table(self) -> str:
        """For a person."""
        within = self.within()
        lines = [f"bench {self.name}", ""]
        for title, values in (
            ("figures", self.figures),
            ("baseline", self.baseline),
            ("ratios", self.ratios),
        ):
            if values:
                lines.append(title)
            for name, value in values.items():
                verdict = ""
                if name in self.budget:
                    verdict = f"   {'within' if within[name] else 'OVER'} the budget of {self.budget[name]:g}"
                lines.append(f"  {name:<44}{_number(value):>12}{verdict}")
        lines += ["", *(f"note: {note}" for note in self.notes)]
        lines += [f"{key}: {value}" for key, value in conditions().items()]
        return "\n".join(lines)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def conditions() -> dict[str, str]:
    """Machine, versions and load."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "machine": f"{os.cpu_count()} x {cpu}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "edgeagent": edgeagent.__version__,
        "podman": _version("podman", "--version"),
        "mosquitto": _version("mosquitto", "-h"),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _version(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0].strip() if done.stdout else "not found"


Benchmark = Callable[[], Report]
