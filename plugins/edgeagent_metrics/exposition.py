"""Metric families as text: Prometheus' own format, and OpenMetrics.

https://prometheus.io/docs/instrumenting/exposition_formats/,
https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from edgeagent.api.metrics import MetricFamily

Format = Literal["text", "openmetrics"]
CONTENT_TYPES: dict[Format, str] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n"})
_NO_NUMBERS = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


class _Head(NamedTuple):
    name: str
    type: str
    help: str


def render(families: Iterable[MetricFamily], format: Format) -> bytes:
    """The page. Families are unique by name, and each has a sample."""
    openmetrics = format == "openmetrics"
    label_texts: dict[int, str] = {}
    lines = []
    for family in families:
        head = _openmetrics_head(family) if openmetrics else _text_head(family)
        lines.append(f"# HELP {head.name} {head.help}\n# TYPE {head.name} {head.type}\n")
        name = family.name
        for sample in family.samples:
            labels = sample.labels
            if labels:
                # Many samples share one dict, which is all there while its families are.
                text = label_texts.get(id(labels))
                if text is None:
                    text = label_texts[id(labels)] = _label_text(labels)
            else:
                text = ""
            value = repr(sample.value)
            if value[-1] > "9":
                value = _NO_NUMBERS[value]
            if sample.time is None:
                lines.append(f"{name}{sample.suffix}{text} {value}\n")
            else:
                moment = repr(sample.time) if openmetrics else str(round(sample.time * 1000))
                lines.append(f"{name}{sample.suffix}{text} {value} {moment}\n")
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode("utf-8", "replace")


def _text_head(family: MetricFamily) -> _Head:
    kind = "untyped" if family.type == "unknown" else family.type
    return _Head(family.name, kind, family.help.translate(_HELP_SPECIAL))


def _openmetrics_head(family: MetricFamily) -> _Head:
    """A counter's family has no ``_total``; one that has none in its samples' names either is no counter."""
    name, kind = family.name, str(family.type)
    if kind == "counter":
        if name.endswith("_total"):
            name = name.removesuffix("_total")
        else:
            kind = "unknown"
    return _Head(name, kind, family.help.translate(_SPECIAL))


def _label_text(labels: dict[str, str]) -> str:
    return "{" + ",".join([f'{name}="{value.translate(_SPECIAL)}"' for name, value in labels.items()]) + "}"
