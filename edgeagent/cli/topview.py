"""What nodes and pods use, as ``kubectl top`` lays it out, for both programs.

May not know how it was measured, nor how it was asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeagent.api.quantity import parse_quantity
from edgeagent.cli.output import PADDING, cell
from edgeagent.wire.top import NodeMetrics, PodMetrics

MEBIBYTE = 1024 * 1024
UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True)
class Used:
    """Cores and bytes; None for what nobody measured."""

    cpu: float | None
    memory: float | None


def used(usage: Mapping[str, str]) -> Used:
    """From quantities by name."""
    return Used(_amount(usage, "cpu"), _amount(usage, "memory"))


def used_by(pod: PodMetrics) -> Used:
    """All containers of a pod."""
    parts = [used(one.usage) for one in pod.containers]
    cpu = [part.cpu for part in parts if part.cpu is not None]
    memory = [part.memory for part in parts if part.memory is not None]
    return Used(sum(cpu) if cpu else None, sum(memory) if memory else None)


def _amount(amounts: Mapping[str, str], name: str) -> float | None:
    try:
        return parse_quantity(amounts[name])
    except (KeyError, ValueError):
        return None


def cores(amount: float | None) -> str:
    """``250m``: thousandths of a core."""
    return UNKNOWN if amount is None else f"{round(amount * 1000)}m"


def mebibytes(amount: float | None) -> str:
    """``64Mi``."""
    return UNKNOWN if amount is None else f"{int(amount) // MEBIBYTE}Mi"


def percent(amount: float | None, of: float | None) -> str:
    """``12%``."""
    return UNKNOWN if amount is None or not of else f"{int(100 * amount / of)}%"


def sort_key(used: Used, by: str | None) -> float:
    """The most first; what was not measured last."""
    amount = {"cpu": used.cpu, "memory": used.memory}.get(by or "")
    return -amount if amount is not None else 1.0


def node_lines(
    nodes: Iterable[tuple[str, NodeMetrics | None, Mapping[str, str]]], *, by: str | None, headers: bool
) -> list[str]:
    """A table of nodes: name, what was measured, and what the node can give (``status.allocatable``)."""
    rows = []
    for name, metrics, allocatable in nodes:
        found = used(metrics.usage) if metrics is not None else Used(None, None)
        shares = (
            percent(found.cpu, _amount(allocatable, "cpu")),
            percent(found.memory, _amount(allocatable, "memory")),
        )
        row = [name, cores(found.cpu), shares[0], mebibytes(found.memory), shares[1]]
        rows.append((sort_key(found, by), row))
    headings = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    return _table(headings, rows, headers=headers)


def pod_lines(
    pods: Iterable[PodMetrics], *, by: str | None, headers: bool, namespaces: bool, containers: bool
) -> list[str]:
    """A table of pods, or of their ``containers``; with ``namespaces`` these come first."""
    rows = []
    for pod in pods:
        place = [pod.metadata.namespace] if namespaces else []
        if containers:
            for one in pod.containers:
                found = used(one.usage)
                row = [*place, pod.metadata.name, one.name, cores(found.cpu), mebibytes(found.memory)]
                rows.append((sort_key(found, by), row))
        else:
            found = used_by(pod)
            row = [*place, pod.metadata.name, cores(found.cpu), mebibytes(found.memory)]
            rows.append((sort_key(found, by), row))
    names = ["POD", "NAME"] if containers else ["NAME"]
    headings = [*(["NAMESPACE"] if namespaces else []), *names, "CPU(cores)", "MEMORY(bytes)"]
    return _table(headings, rows, headers=headers)


def _table(headings: list[str], rows: Sequence[tuple[float, list[str]]], *, headers: bool) -> list[str]:
    lines = [[cell(text) for text in row] for _, row in sorted(rows)]
    if headers:
        lines.insert(0, headings)
    widths = [
        max((len(line[column]) for line in lines), default=0) + PADDING for column in range(len(headings))
    ]
    return ["".join(t.ljust(w) for t, w in zip(line, widths, strict=True)).rstrip() for line in lines]
