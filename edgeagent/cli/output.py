"""Objects as a person or a program reads them: kubectl's tables, JSON, YAML, names.

Text that came from another machine is never written to a terminal as it is: what cannot be printed is
escaped, so that no message can move the cursor or change the title. Times are told from an injected now.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import msgspec

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import Pod
from edgeagent.cli import networkcells, securitycells
from edgeagent.cli.podsummary import summarise_pod
from edgeagent.cli.resources import Resource, find_resource

OutputFormat = Literal["table", "wide", "json", "yaml", "name"]
FORMATS: tuple[OutputFormat, ...] = ("table", "wide", "json", "yaml", "name")
"""What ``-o`` takes."""

PADDING = 3
"""Spaces between two columns of a table, as kubectl's."""
MIN_WIDTH = 6
"""The narrowest column, its padding included."""


def resource_of(item: KubernetesObject) -> Resource:
    """The resource that an object is of."""
    return find_resource(type(item).__name__)


# Text ---------------------------------------------------------------------------------------------


def escape(text: str, *, keep: str = "") -> str:
    r"""``text`` with what cannot be printed as ``\x1b`` or ``\u202e``, save the characters of ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return named or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def cell(text: str) -> str:
    """``text`` fit for one cell of a table: cut at its first line end, as kubectl does, and escaped."""
    first = re.split(r"[\r\n\f]", text, maxsplit=1)
    return escape(first[0]) + ("..." if len(first) > 1 else "")


def human_duration(seconds: float) -> str:
    """A span of time as kubectl tells it: ``45s``, ``5m12s``, ``3d4h``; ``<invalid>`` for the future."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, sub_unit: str) -> str:
    return f"{first}{unit}{second}{sub_unit}" if second else f"{first}{unit}"


def seconds_since(timestamp: str, now: float) -> float | None:
    """Seconds from an RFC 3339 ``timestamp`` to ``now``; None where there is none."""
    try:
        return now - parse_rfc3339(timestamp)
    except (ValueError, OverflowError):
        return None


def age(timestamp: str, now: float) -> str:
    """How long ago an RFC 3339 ``timestamp`` was; ``<unknown>`` where there is none."""
    seconds = seconds_since(timestamp, now)
    return "<unknown>" if seconds is None else human_duration(seconds)


# Colour -------------------------------------------------------------------------------------------

_GOOD, _BUSY, _BAD = "\x1b[32m", "\x1b[33m", "\x1b[31m"
_RESET = "\x1b[0m"
_TONES: Mapping[str, str] = {
    **dict.fromkeys(("Running", "Ready", "Completed", "Succeeded"), _GOOD),
    **dict.fromkeys(
        ("Pending", "ContainerCreating", "PodInitializing", "Terminating", "NotReady", "Unknown"), _BUSY
    ),
    "Normal": "",
}


_INIT = re.compile(r"Init:\d+/\d+")


def _tone(text: str) -> str:
    """The colour of a STATUS or TYPE, empty for none."""
    return _TONES.get("PodInitializing" if _INIT.fullmatch(text) else text, _BAD)


def wants_colour(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether ``stream`` is a terminal that may show colours (https://no-color.org/)."""
    environ = os.environ if environ is None else environ
    return not environ.get("NO_COLOR") and environ.get("TERM", "") != "dumb" and stream.isatty()


# Status, as kubectl computes it -------------------------------------------------------------------


def node_status(node: Node) -> str:
    """``Ready``, ``NotReady``, or ``Unknown`` where the node has not said."""
    for condition in node.status.conditions:
        if condition.type == "Ready":
            return "Ready" if condition.status == "True" else "NotReady"
    return "Unknown"


def node_roles(node: Node) -> str:
    """The roles that the node's labels give it, as kubectl reads them."""
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in node.metadata.labels if key.startswith(prefix)}
    if role := node.metadata.labels.get("kubernetes.io/role"):
        roles.add(role)
    return ",".join(sorted(roles)) or "<none>"


# Tables -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; ``wide`` ones are shown by ``-o wide`` only; ``toned`` ones may be coloured."""

    heading: str
    wide: bool = False
    toned: bool = False


_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "Pod": (
        Column("NAME"), Column("READY"), Column("STATUS", toned=True), Column("RESTARTS"), Column("AGE"),
        Column("IP", wide=True), Column("NODE", wide=True),
    ),
    "Node": (
        Column("NAME"), Column("STATUS", toned=True), Column("ROLES"), Column("AGE"), Column("VERSION"),
        Column("INTERNAL-IP", wide=True), Column("OS-IMAGE", wide=True), Column("KERNEL-VERSION", wide=True),
        Column("CONTAINER-RUNTIME", wide=True),
    ),
    "ConfigMap": (Column("NAME"), Column("DATA"), Column("AGE")),
    "Secret": (Column("NAME"), Column("TYPE"), Column("DATA"), Column("AGE")),
    "Event": (
        Column("LAST SEEN"), Column("TYPE", toned=True), Column("REASON"), Column("OBJECT"),
        Column("SUBOBJECT", wide=True), Column("SOURCE", wide=True), Column("MESSAGE"),
        Column("FIRST SEEN", wide=True), Column("COUNT", wide=True), Column("NAME", wide=True),
    ),
    "CountedEvent": (
        Column("LAST SEEN"), Column("TYPE", toned=True), Column("REASON"), Column("OBJECT"),
        Column("MESSAGE"),
    ),
    **{
        kind: tuple(Column(one.removeprefix("+"), wide=one.startswith("+")) for one in headings)
        for kind, headings in {**networkcells.HEADINGS, **securitycells.HEADINGS}.items()
    },
}  # fmt: skip


def _pod_cells(pod: Pod, now: float) -> list[str]:
    summary = summarise_pod(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts += f" ({age(summary.last_restart, now)} ago)"
    return [
        pod.metadata.name,
        f"{summary.ready}/{summary.total}",
        summary.status,
        restarts,
        age(pod.metadata.creation_timestamp, now),
        pod.status.pod_ip or "<none>",
        pod.spec.node_name or "<none>",
    ]


def _node_cells(node: Node, now: float) -> list[str]:
    info = node.status.node_info
    internal = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    return [
        node.metadata.name,
        node_status(node),
        node_roles(node),
        age(node.metadata.creation_timestamp, now),
        info.kubelet_version,
        internal or "<none>",
        info.os_image or "<unknown>",
        info.kernel_version or "<unknown>",
        info.container_runtime_version or "<unknown>",
    ]


def _config_map_cells(item: ConfigMap, now: float) -> list[str]:
    count = len(item.data) + len(item.binary_data)
    return [item.metadata.name, str(count), age(item.metadata.creation_timestamp, now)]


def _secret_cells(item: Secret, now: float) -> list[str]:
    count = len(item.data.keys() | item.string_data.keys())
    return [item.metadata.name, item.type, str(count), age(item.metadata.creation_timestamp, now)]


def _event_cells(event: Event, now: float) -> list[str]:
    about = event.involved_object
    first = event.first_timestamp or event.last_timestamp or event.metadata.creation_timestamp
    source = ", ".join(part for part in (event.source.component, event.source.host) if part)
    return [
        age(event.last_timestamp or first, now),
        event.type,
        event.reason,
        f"{about.kind.lower()}/{about.name}",
        about.field_path,
        source,
        event.message.strip(),
        age(first, now),
        str(event.count),
        event.metadata.name,
    ]


def seen(event: Event, now: float) -> str:
    """When an event happened last, and how often in which time: ``5m (x3 over 10m)``, as kubectl tells it."""
    first = event.first_timestamp or event.last_timestamp or event.metadata.creation_timestamp
    if event.count > 1 and seconds_since(event.last_timestamp, now) is not None:
        return f"{age(event.last_timestamp, now)} (x{event.count} over {age(first, now)})"
    return age(event.last_timestamp or first, now)


def _counted_event_cells(event: Event, now: float) -> list[str]:
    about = event.involved_object
    told = event.type, event.reason, f"{about.kind}/{about.name}", event.message.strip()
    return [seen(event, now), *told]


def _with_age(cells: Callable[[Any, str], list[str]]) -> Callable[[Any, float], list[str]]:
    return lambda item, now: cells(item, age(item.metadata.creation_timestamp, now))


_CELLS: Mapping[str, Callable[[Any, float], list[str]]] = {
    "Pod": _pod_cells,
    "Node": _node_cells,
    "ConfigMap": _config_map_cells,
    "Secret": _secret_cells,
    "Event": _event_cells,
    "CountedEvent": _counted_event_cells,
    **{kind: _with_age(cells) for kind, cells in {**networkcells.CELLS, **securitycells.CELLS}.items()},
}


class Table:
    """Rows of one kind. Later rows of a watch keep to the columns of earlier ones.

    ``with_namespace`` puts a NAMESPACE column first, ``with_kind`` writes names as ``pod/hello``. ``counted``
    is the layout of ``kubectl events``, which tells how often each happened.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        wide: bool = False,
        headers: bool = True,
        with_namespace: bool = False,
        with_kind: bool = False,
        colour: bool = False,
        counted: bool = False,
    ) -> None:
        self._resource = resource
        self._layout = "CountedEvent" if counted else resource.kind
        self._headers = headers
        self._namespace = with_namespace and resource.namespaced
        self._kind = with_kind
        self._colour = colour
        columns = _COLUMNS[self._layout]
        self._shown = [index for index, column in enumerate(columns) if wide or not column.wide]
        self._columns = [columns[index] for index in self._shown]
        if self._namespace:
            self._columns.insert(0, Column("NAMESPACE"))
        self._widths = [0] * len(self._columns)

    def lines(self, items: Iterable[KubernetesObject], now: float) -> list[str]:
        """The rows of ``items``, under the headings if this is the first call."""
        rows = [self._row(item, now) for item in items]
        headings = [[column.heading for column in self._columns]] if self._headers else []
        self._headers = False
        for row in (*headings, *rows):
            self._widths = [
                max(width, len(text) + PADDING, MIN_WIDTH)
                for width, text in zip(self._widths, row, strict=True)
            ]
        return [self._line(row, toned=False) for row in headings] + [
            self._line(row, toned=self._colour) for row in rows
        ]

    def _row(self, item: KubernetesObject, now: float) -> list[str]:
        cells = _CELLS[self._layout](item, now)
        row = [cell(cells[index]) for index in self._shown]
        if self._kind:
            place = (
                self._columns.index(Column("NAME")) - self._namespace
                if self._resource.kind != "Event"
                else None
            )
            if place is not None:
                row[place] = f"{self._resource.singular}/{row[place]}"
        if self._namespace:
            row.insert(0, cell(item.metadata.namespace))
        return row

    def _line(self, row: Sequence[str], *, toned: bool) -> str:
        parts = []
        for index, (text, column, width) in enumerate(zip(row, self._columns, self._widths, strict=True)):
            gap = " " * (width - len(text)) if index < len(row) - 1 else ""
            tone = _tone(text) if toned and column.toned and text else ""
            parts.append(f"{tone}{text}{_RESET}{gap}" if tone else text + gap)
        return "".join(parts).rstrip()


def sort_for_table(items: Iterable[KubernetesObject]) -> list[KubernetesObject]:
    """Events by the time they were last seen; everything else as it comes."""
    listed = list(items)
    if all(isinstance(item, Event) for item in listed):
        listed.sort(key=lambda item: _event_time(item) if isinstance(item, Event) else 0.0)
    return listed


def _event_time(event: Event) -> float:
    moment = event.last_timestamp or event.first_timestamp or event.metadata.creation_timestamp
    try:
        return parse_rfc3339(moment)
    except (ValueError, OverflowError):
        return 0.0


# JSON, YAML, names --------------------------------------------------------------------------------


def to_plain(item: object) -> Any:
    """A struct as plain data, as it stands in JSON; plain data as it is."""
    return msgspec.to_builtins(item)


def as_list(items: Iterable[object]) -> dict[str, object]:
    """``kind: List`` of the objects, as kubectl prints several."""
    return {
        "apiVersion": "v1",
        "items": [to_plain(item) for item in items],
        "kind": "List",
        "metadata": {"resourceVersion": ""},
    }


def format_json(data: object) -> str:
    """JSON as kubectl indents it, with its closing newline; what cannot be printed is escaped."""
    text = json.dumps(to_plain(data), indent=4, sort_keys=True, ensure_ascii=False)
    # A raw character that cannot be printed stands inside a JSON string only, where \u means the same.
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text) + "\n"


def format_yaml(data: object) -> str:
    """YAML with sorted keys; where any text in it cannot be printed, all but ASCII is escaped."""
    from edgeagent.wire.yamlio import dump

    plain = to_plain(data)
    return dump(plain, ascii_only=not _printable(plain))


def _printable(data: object) -> bool:
    if isinstance(data, str):
        return data.replace("\n", "").isprintable()
    if isinstance(data, dict):
        return all(_printable(key) and _printable(value) for key, value in data.items())
    return not isinstance(data, list) or all(map(_printable, data))


def name_of(item: KubernetesObject) -> str:
    """``pod/hello``."""
    return f"{type(item).__name__.lower()}/{escape(item.metadata.name)}"


def print_objects(
    items: Sequence[KubernetesObject],
    *,
    out: TextIO,
    now: float,
    output: OutputFormat = "table",
    single: bool = False,
    headers: bool = True,
    with_namespace: bool = False,
    with_kind: bool = False,
    colour: bool = False,
    counted: bool = False,
) -> None:
    """Write ``items`` to ``out``. ``single`` (one was asked for by name) prints the object, not a List.

    In a table, objects of several kinds make one table a kind, in order of first appearance.
    """
    if output in ("json", "yaml"):
        data = items[0] if single and len(items) == 1 else as_list(items)
        out.write(format_json(data) if output == "json" else format_yaml(data))
        return
    if output == "name":
        out.writelines(f"{name_of(item)}\n" for item in items)
        return
    by_kind: dict[str, list[KubernetesObject]] = {}
    for item in items:
        by_kind.setdefault(type(item).__name__, []).append(item)
    for position, (kind, members) in enumerate(by_kind.items()):
        table = Table(
            find_resource(kind),
            wide=output == "wide",
            headers=headers,
            with_namespace=with_namespace,
            with_kind=with_kind or len(by_kind) > 1,
            colour=colour,
            counted=counted,
        )
        if position and headers:
            out.write("\n")
        out.writelines(f"{line}\n" for line in table.lines(sort_for_table(members), now))
