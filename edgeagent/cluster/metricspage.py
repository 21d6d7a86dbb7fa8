"""The page of the newest metrics of all nodes, in Prometheus' text format, with the times of the nodes.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgeagent.api.metrics import FamilyHead, MetricType, Series, is_stale
from edgeagent.wire.metricblock import MetricBlock

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES = frozenset({"", "_bucket", "_sum", "_count"})
_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n"})
_NO_NUMBERS = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}


@dataclass(slots=True)
class _Family:
    head: FamilyHead
    lines: list[str] = field(default_factory=list)


def render(nodes: Iterable[tuple[str, Sequence[MetricBlock]]]) -> bytes:
    """The last values of each node's blocks, by family. A series that ended in them is not there."""
    families: dict[str, _Family] = {}
    for node, blocks in nodes:
        newest = max((block.moments[-1].time for block in blocks if block.moments), default=0)
        for block in blocks:
            for one in usable(block):
                if one.times[-1] == newest and not is_stale(one.values[-1]):
                    head = block.batch.families[one.family]
                    family = families.setdefault(head.name, _Family(head))
                    family.lines.append(_line(head.name, one, node))
    return "".join(_page(families[name] for name in sorted(families))).encode("utf-8", "replace")


def usable(block: MetricBlock) -> list[Series]:
    """The series whose names are names: what a node sends must not become lines of its own on a page."""
    families = [_NAME.fullmatch(head.name) is not None for head in block.batch.families]
    return [
        one
        for one in block.batch.series
        if families[one.family] and one.suffix in _SUFFIXES and all(map(_LABEL.fullmatch, one.labels))
    ]


@dataclass(frozen=True, slots=True)
class Own:
    """A metric of the hub itself."""

    name: str
    type: MetricType
    help: str
    value: float


def render_own(metrics: Iterable[Own]) -> bytes:
    """The hub's own metrics, to stand after those of the nodes."""
    pages = (
        _Family(FamilyHead(one.name, one.type, one.help), [f"{one.name} {float(one.value)!r}\n"])
        for one in metrics
    )
    return "".join(_page(pages)).encode()


def labels_of(series: Series, node: str) -> dict[str, str]:
    """The labels of a series that a node sent: it speaks for itself alone, whatever its own label says.

    A label ``node`` of its own is called as Prometheus calls it where a target's label is in its way.
    """
    own = {("exported_node" if name == "node" else name): value for name, value in series.labels.items()}
    return {**own, "node": node}


def _page(families: Iterable[_Family]) -> Iterable[str]:
    for family in families:
        head = family.head
        kind = "untyped" if head.type == "unknown" else head.type
        yield f"# HELP {head.name} {head.help.translate(_HELP_SPECIAL)}\n# TYPE {head.name} {kind}\n"
        yield from family.lines


def _line(name: str, series: Series, node: str) -> str:
    labels = labels_of(series, node)
    text = ",".join(f'{name}="{value.translate(_SPECIAL)}"' for name, value in labels.items())
    value = repr(series.values[-1])
    return f"{name}{series.suffix}{{{text}}} {_NO_NUMBERS.get(value, value)} {series.times[-1]}\n"
