"""Metric families as text: Prometheus' own format, and OpenMetrics.

https://prometheus.io/docs/instrumenting/exposition_formats/,
https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from edgeagent.api.metrics import MetricFamily, MetricType

Format = Literal["text", "openmetrics"]
CONTENT_TYPES: dict[Format, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n"})
_NO_NUMBERS = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


def render(families: Iterable[MetricFamily], format: Format) -> bytes:
    """The page. Families are unique by name, and each has a sample."""
    openmetrics = format == "openmetrics"
    label_texts: dict[int, str] = {}
    lines = []
    for family in families:
        name = family.name
        lines.append(_head(name, family.type, family.help, openmetrics))
        for sample in family.samples:
            # Many samples share one dict, which is all there while its families are.
            key = id(sample.labels)
            text = label_texts.get(key)
            if text is None:
                text = label_texts[key] = _label_text(sample.labels)
            value = repr(sample.value)
            if value[-1] > "9":
                value = _NO_NUMBERS[value]
            if sample.time is not None:
                moment = repr(sample.time) if openmetrics else str(round(sample.time * 1000))
                value = f"{value} {moment}"
            lines.append(f"{name}{sample.suffix}{text} {value}\n")
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode("utf-8", "replace")


@lru_cache(maxsize=2048)
def _head(name: str, kind: MetricType, help: str, openmetrics: bool) -> str:
    """HELP and TYPE. In OpenMetrics a counter's family has no ``_total``, and without it is none."""
    if not openmetrics:
        known = "untyped" if kind == "unknown" else kind
        return f"# HELP {name} {help.translate(_HELP_SPECIAL)}\n# TYPE {name} {known}\n"
    shown = "unknown" if kind == "counter" and not name.endswith("_total") else kind
    if shown == "counter":
        name = name.removesuffix("_total")
    return f"# HELP {name} {help.translate(_SPECIAL)}\n# TYPE {name} {shown}\n"


def _label_text(labels: dict[str, str]) -> str:
    inner = ",".join([f'{name}="{_escaped(value)}"' for name, value in labels.items()])
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    """Most values are as they are, and ``translate`` looks at every letter."""
    return value.translate(_SPECIAL) if "\\" in value or '"' in value or "\n" in value else value
