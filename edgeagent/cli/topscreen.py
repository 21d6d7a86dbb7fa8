"""The lines of ``edgeagent top``: the node with bars, and its containers, the greediest first. Pure.

Fits into any terminal from 40 by 8 on; what does not fit is counted, not cut in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import ContainerStatus, Pod
from edgeagent.api.quantity import parse_quantity
from edgeagent.cli.output import age, cell
from edgeagent.cli.podsummary import summarise_pod
from edgeagent.cli.terminal import Size
from edgeagent.cli.topview import UNKNOWN, Used, cores, mebibytes, sort_key, used
from edgeagent.wire.top import TopResult

SortBy = Literal["cpu", "memory"]
GIBIBYTE = 1024**3
WIDEST_BAR, SHORTEST_BAR = 30, 5
HIGH, FULL = 0.7, 0.9
"""From where on a bar is yellow, and red."""
_GREEN, _YELLOW, _RED, _BOLD, _RESET = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, in bytes, and the path that it was asked of."""

    path: str
    used: int
    size: int


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of the node at one moment, ``now`` in seconds since the epoch."""

    node: Node
    metrics: TopResult
    pods: Sequence[Pod] = ()
    disk: Disk | None = None
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """How it is looked at. ``problem`` is what keeps the picture from being newer."""

    size: Size
    sort_by: SortBy = "cpu"
    colour: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    pod: str
    container: str
    use: Used
    restarts: str = ""
    status: str = ""
    since: str = ""
    key: tuple[float, str, str] = field(default=(0.0, "", ""))


def draw(picture: Picture, look: Look) -> list[str]:
    """The whole screen: ``look.size.rows`` lines at most, none longer than it is wide."""
    width, height = look.size.columns, look.size.rows
    rows = _rows(picture, look.sort_by)
    head = [_title(picture, len(rows), look), *bars(picture, width, colour=look.colour), ""]
    other = "memory" if look.sort_by == "cpu" else "cpu"
    foot = [f"q quit   s sort by {other}"[:width]]
    if look.problem:
        foot.insert(0, _toned(cell(look.problem)[:width], _RED, colour=look.colour))
    room = max(0, height - len(head) - len(foot) - 1)
    shown = rows if len(rows) <= room else rows[: max(0, room - 1)]
    table = _table(shown, width)
    if look.colour and table:
        table[0] = _toned(table[0], _BOLD, colour=True)
    if len(shown) < len(rows):
        table.append(f"… {len(rows) - len(shown)} more; a taller window shows them"[:width])
    if not rows:
        table = ["No container runs."[:width]]
    body = [*head, *table]
    body += [""] * (height - len(body) - len(foot))
    return [*body[: max(0, height - len(foot))], *foot][:height]


def plain(picture: Picture, sort_by: SortBy) -> list[str]:
    """The same once, for a page without an end."""
    rows = _rows(picture, sort_by)
    table = _table(rows, None) if rows else ["No container runs."]
    return [*bars(picture, 80, colour=False), "", *table]


def bars(picture: Picture, width: int, *, colour: bool) -> list[str]:
    """CPU, memory and disk: a bar, how much of it, and of how much."""
    capacity = picture.node.status.capacity
    measured = picture.metrics.node
    found = used(measured.usage) if measured is not None else Used(None, None)
    count, memory = _amount(capacity, "cpu"), _amount(capacity, "memory")
    told = [
        ("CPU", _share(found.cpu, count), f"{_number(found.cpu)} of {_number(count)} cores"),
        ("Memory", _share(found.memory, memory), f"{_size(found.memory)} of {_size(memory)}"),
    ]
    if (disk := picture.disk) is not None:
        said = f"{_size(disk.used)} of {_size(disk.size)}  {cell(disk.path)}"
        told.append(("Disk", _share(disk.used, disk.size), said))
    cells = min(WIDEST_BAR, width - 16 - max(len(said) for _, _, said in told))
    return [_bar(*one, cells, colour=colour)[: None if cells >= SHORTEST_BAR else width] for one in told]


def _title(picture: Picture, containers: int, look: Look) -> str:
    node = picture.node
    ready = next((one.status for one in node.status.conditions if one.type == "Ready"), "Unknown")
    state = {"True": "Ready", "False": "NotReady"}.get(ready, "Unknown")
    count = len({(pod.metadata.namespace, pod.metadata.name) for pod in picture.metrics.pods})
    name = cell(node.metadata.name)
    counted = (
        f"{count} pod{'' if count == 1 else 's'}, {containers} container{'' if containers == 1 else 's'}"
    )
    text = f"{name}  {state}  {counted}  by {look.sort_by}"[: look.size.columns]
    if not look.colour:
        return text
    return text.replace(state, _toned(state, _GREEN if ready == "True" else _RED, colour=True), 1)


def _share(amount: float | None, of: float | None) -> float | None:
    """From 0 to 1; None where it is not known."""
    return None if amount is None or not of else min(1.0, max(0.0, amount / of))


def _bar(label: str, share: float | None, said: str, cells: int, *, colour: bool) -> str:
    """A line with a bar of ``cells``, without one where these are too few."""
    percent = f"{round(100 * share):>3}%" if share is not None else "  ?%"
    if cells < SHORTEST_BAR:
        return f"{label:<8}{percent}  {said}"
    full = round(cells * (share or 0.0))
    tone = _RED if (share or 0) >= FULL else _YELLOW if (share or 0) >= HIGH else _GREEN
    return f"{label:<8}[{_toned('|' * full, tone, colour=colour)}{' ' * (cells - full)}]{percent}  {said}"


def _rows(picture: Picture, by: SortBy) -> list[_Row]:
    pods = {(pod.metadata.namespace, pod.metadata.name): pod for pod in picture.pods}
    rows = []
    for metrics in picture.metrics.pods:
        meta = metrics.metadata
        pod = pods.get((meta.namespace, meta.name))
        statuses = _statuses(pod)
        name = f"{meta.namespace}/{meta.name}"
        for one in metrics.containers:
            use, status = used(one.usage), statuses.get(one.name)
            running = status.state.running if status is not None else None
            rows.append(
                _Row(
                    pod=cell(name),
                    container=cell(one.name),
                    use=use,
                    restarts=str(status.restart_count) if status is not None else "",
                    status=cell(summarise_pod(pod).status) if pod is not None else "",
                    since=age(running.started_at, picture.now) if running is not None else "",
                    key=(sort_key(use, by), name, one.name),
                )
            )
    return sorted(rows, key=lambda row: row.key)


def _statuses(pod: Pod | None) -> Mapping[str, ContainerStatus]:
    if pod is None:
        return {}
    every = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    return {status.name: status for status in every}


_HEADINGS = ("POD", "CONTAINER", "CPU", "MEMORY", "RESTARTS", "STATUS", "AGE")
_RIGHT = (2, 3, 4)
_FIRST_TO_GO = (6, 4, 5, 1)
"""Columns that a narrow terminal does without, in this order."""


def _table(rows: Sequence[_Row], width: int | None) -> list[str]:
    """Headings and rows. Names give way first, down to what still tells them apart; then columns do."""
    cells = [list(_HEADINGS)] + [
        [row.pod, row.container, cores(row.use.cpu), mebibytes(row.use.memory), row.restarts, row.status,
         row.since] for row in rows
    ]  # fmt: skip
    columns = list(range(len(_HEADINGS)))
    widths = [max(len(line[column]) for line in cells) for column in columns]
    if width is not None:
        for gone in _FIRST_TO_GO:
            if sum(min(widths[column], 24 if column < 2 else 99) + 2 for column in columns) <= width:
                break
            columns.remove(gone)
        for column in (0, 1):
            excess = sum(widths[one] + 2 for one in columns) - 2 - width
            if column in columns and excess > 0:
                widths[column] = max(8, widths[column] - excess)
    return [
        "  ".join(
            _short(line[column], widths[column]).rjust(widths[column])
            if column in _RIGHT
            else _short(line[column], widths[column]).ljust(widths[column])
            for column in columns
        ).rstrip()[:width]
        for line in cells
    ]


def _short(text: str, width: int) -> str:
    """The end of a name tells more than its middle."""
    if len(text) <= width:
        return text
    front = (width - 1) // 2
    return text[:front] + "…" + text[len(text) - (width - 1 - front) :]


def _toned(text: str, tone: str, *, colour: bool) -> str:
    return f"{tone}{text}{_RESET}" if colour and text else text


def _amount(amounts: Mapping[str, str], name: str) -> float | None:
    try:
        return parse_quantity(amounts[name])
    except (KeyError, ValueError):
        return None


def _number(amount: float | None) -> str:
    return UNKNOWN if amount is None else f"{amount:.2f}".rstrip("0").rstrip(".")


def _size(amount: float | None) -> str:
    if amount is None:
        return UNKNOWN
    return f"{amount / GIBIBYTE:.1f}Gi" if amount >= GIBIBYTE else mebibytes(amount)
