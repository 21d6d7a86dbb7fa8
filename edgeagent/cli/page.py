"""A page as ``kubectl describe`` lays it out: indented rows in columns, and what every kind begins with."""

from collections.abc import Sequence
from datetime import datetime, tzinfo

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.node import Node
from edgeagent.cli.output import cell, escape

PADDING = 2
"""Spaces between two columns."""
LONG = 140
"""An annotation longer than this, or of several lines, begins on a line of its own."""


class Page:
    """Lines of tab-separated cells, aligned the way Go's text/tabwriter does.

    ``now`` is seconds since the epoch; times are shown in ``timezone``, the machine's own where it is None.
    """

    def __init__(self, now: float, timezone: tzinfo | None) -> None:
        self.now = now
        self._timezone = timezone
        self._lines: list[list[str]] = []

    def row(self, level: int, *cells: str) -> None:
        """One line; the cells are escaped, and the first is indented by ``level``."""
        made = [cell(text) if index else escape(text) for index, text in enumerate(cells)]
        self._lines.append(["  " * level + made[0], *made[1:]])

    def raw(self, text: str) -> None:
        """Text of any number of lines, escaped line by line, taking no part in the columns."""
        self._lines += [[escape(line, keep="\t")] for line in text.split("\n")]

    def blank(self) -> None:
        """An empty line, which also ends the columns above it."""
        self._lines.append([""])

    def time(self, timestamp: str) -> str:
        """A point in time as RFC 1123 writes it; what is no time stamp as it stands."""
        try:
            moment = datetime.fromtimestamp(parse_rfc3339(timestamp), self._timezone).astimezone(
                self._timezone
            )
        except (ValueError, OverflowError, OSError):
            return timestamp
        return moment.strftime("%a, %d %b %Y %H:%M:%S %z")

    def text(self) -> str:
        """All lines. A column is as wide as its widest cell among adjoining lines that go on after it."""
        widths: list[list[int]] = [[0] * (len(line) - 1) for line in self._lines]
        for column in range(max((len(w) for w in widths), default=0)):
            block: list[int] = []
            for index in range(len(self._lines) + 1):
                if index < len(self._lines) and len(widths[index]) > column:
                    block.append(index)
                    continue
                width = max((len(self._lines[i][column]) for i in block), default=0) + PADDING
                for i in block:
                    widths[i][column] = width
                block = []
        made = (
            "".join(text.ljust(width) for text, width in zip(line, [*taken, 0], strict=True)).rstrip(" ")
            for line, taken in zip(self._lines, widths, strict=True)
        )
        return "\n".join(made) + "\n"


def head(page: Page, item: KubernetesObject) -> None:
    """Name and namespace."""
    page.row(0, "Name:", item.metadata.name)
    if not isinstance(item, Node):
        page.row(0, "Namespace:", item.metadata.namespace)


def labels(page: Page, item: KubernetesObject) -> None:
    """Labels and annotations, sorted."""
    several(page, "Labels:", [f"{key}={value}" for key, value in sorted(item.metadata.labels.items())])
    if not item.metadata.annotations:
        page.row(0, "Annotations:", "<none>")
    for index, (key, value) in enumerate(sorted(item.metadata.annotations.items())):
        label = "" if index else "Annotations:"
        if len(value) <= LONG and "\n" not in value:
            page.row(0, label, f"{key}: {value}")
            continue
        page.row(0, label, f"{key}:")
        for line in value.strip().split("\n"):
            page.row(0, "", f"  {line[:LONG]}{'...' if len(line) > LONG else ''}")


def several(page: Page, label: str, values: Sequence[str]) -> None:
    """A label and any number of values, one a line; ``<none>`` for none."""
    for index, value in enumerate(values or ["<none>"]):
        page.row(0, "" if index else label, value)
