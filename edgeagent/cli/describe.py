"""One object told at length, in the layout of ``kubectl describe``, with its events at the end."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.container import Container, EnvVar
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import ContainerStateUnion, ContainerStatus, Pod
from edgeagent.cli.output import age, cell, escape, node_roles, seconds_since, sort_for_table, summarise_pod

PADDING = 2
"""Spaces between two columns."""
LONG = 140
"""An annotation longer than this, or of several lines, begins on a line of its own."""


def describe(
    item: KubernetesObject,
    *,
    events: Sequence[Event] = (),
    pods: Sequence[Pod] = (),
    now: float,
    timezone: tzinfo | None = None,
) -> str:
    """The description of ``item``, with its closing newline.

    ``pods`` are those of a node. Times are shown in ``timezone``, or in the machine's own where it is None.
    """
    page = _Page(now, timezone)
    match item:
        case Pod():
            _pod(page, item)
        case Node():
            _node(page, item, pods)
        case ConfigMap():
            _config_map(page, item)
        case Secret():
            _secret(page, item)
        case _:
            _head(page, item)
    _events(page, events)
    return page.text()


def events_of(item: KubernetesObject, events: Iterable[Event]) -> list[Event]:
    """Those of ``events`` that are about this very object: by uid where both have one, else by name."""
    kind, meta = type(item).__name__, item.metadata
    return [
        event
        for event in events
        if (about := event.involved_object).kind == kind
        and about.name == meta.name
        and (not isinstance(item, Pod | ConfigMap | Secret) or about.namespace == meta.namespace)
        and (not about.uid or not meta.uid or about.uid == meta.uid)
    ]


class _Page:
    """Lines of tab-separated cells, aligned the way Go's text/tabwriter does."""

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


def _head(page: _Page, item: KubernetesObject) -> None:
    page.row(0, "Name:", item.metadata.name)
    if not isinstance(item, Node):
        page.row(0, "Namespace:", item.metadata.namespace)


def _labels(page: _Page, item: KubernetesObject) -> None:
    _several(page, "Labels:", [f"{key}={value}" for key, value in sorted(item.metadata.labels.items())])
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


def _several(page: _Page, label: str, values: Sequence[str]) -> None:
    for index, value in enumerate(values or ["<none>"]):
        page.row(0, "" if index else label, value)


def _pod(page: _Page, pod: Pod) -> None:
    status, meta = pod.status, pod.metadata
    _head(page, pod)
    page.row(0, "Node:", f"{pod.spec.node_name}/{status.host_ip}" if pod.spec.node_name else "<none>")
    if status.start_time:
        page.row(0, "Start Time:", page.time(status.start_time))
    _labels(page, pod)
    if meta.deletion_timestamp:
        lasts = age(meta.deletion_timestamp, page.now)
        page.row(0, "Status:", "Terminating" if lasts == "<invalid>" else f"Terminating (lasts {lasts})")
        if meta.deletion_grace_period_seconds is not None:
            page.row(0, "Termination Grace Period:", f"{meta.deletion_grace_period_seconds}s")
    else:
        page.row(0, "Status:", status.phase or "Pending")
    for label, value in (("Reason:", status.reason), ("Message:", status.message)):
        if value:
            page.row(0, label, value)
    page.row(0, "IP:", status.pod_ip)
    if status.pod_ips:
        page.row(0, "IPs:")
        for address in status.pod_ips:
            page.row(1, "IP:", address.ip)
    else:
        page.row(0, "IPs:", "<none>")
    page.row(0, "Host Network:", str(pod.spec.host_network).lower())
    page.row(0, "Restart Policy:", pod.spec.restart_policy)
    page.row(0, "Containers:")
    observed = {container.name: container for container in status.container_statuses}
    for container in pod.spec.containers:
        _container(page, container, observed.get(container.name))
    if status.conditions:
        page.row(0, "Conditions:")
        page.row(1, "Type", "Status", "Reason", "Message")
        for condition in status.conditions:
            page.row(1, condition.type, condition.status, condition.reason, condition.message)


def _container(page: _Page, container: Container, status: ContainerStatus | None) -> None:
    page.row(1, f"{container.name}:")
    if status is not None:
        page.row(2, "Container ID:", status.container_id)
    page.row(2, "Image:", container.image)
    if status is not None:
        page.row(2, "Image ID:", status.image_id)
    many = "s" if len(container.ports) > 1 else ""
    ports = [f"{port.container_port}/{port.protocol}" for port in container.ports]
    host_ports = [f"{port.host_port}/{port.protocol}" for port in container.ports]
    page.row(2, f"Port{many}:", ", ".join(ports) or "<none>")
    page.row(2, f"Host Port{many}:", ", ".join(host_ports) or "<none>")
    for label, words in (("Command:", container.command), ("Args:", container.args)):
        if words:
            page.row(2, label)
        for line in "\n".join(words).split("\n") if words else ():
            page.row(3, line)
    if status is not None:
        _state(page, "State:", status.state)
        if status.last_state.terminated is not None:
            _state(page, "Last State:", status.last_state)
        page.row(2, "Ready:", str(status.ready))
        page.row(2, "Restart Count:", str(status.restart_count))
    for label, amounts in (
        ("Limits:", container.resources.limits),
        ("Requests:", container.resources.requests),
    ):
        if amounts:
            page.row(2, label)
        for name, amount in sorted(amounts.items()):
            page.row(3, f"{name}:", str(amount))
    if container.env_from:
        page.row(2, "Environment Variables from:")
    for source in container.env_from:
        kind, reference = (
            ("ConfigMap", source.config_map_ref) if source.config_map_ref else ("Secret", source.secret_ref)
        )
        if reference is not None:
            prefix = f" with prefix {source.prefix!r}" if source.prefix else ""
            page.row(3, reference.name, kind + prefix, f"Optional: {str(reference.optional).lower()}")
    page.row(2, "Environment:", *([] if container.env else ["<none>"]))
    for variable in container.env:
        page.row(3, f"{variable.name}:", *_environment(variable))


def _environment(variable: EnvVar) -> list[str]:
    source = variable.value_from
    if source is None:
        return [variable.value]
    if (key := source.secret_key_ref) is not None:
        return [
            f"<set to the key '{key.key}' in secret '{key.name}'>",
            f"Optional: {str(key.optional).lower()}",
        ]
    if (key := source.config_map_key_ref) is not None:
        return [
            f"<set to the key '{key.key}' of config map '{key.name}'>",
            f"Optional: {str(key.optional).lower()}",
        ]
    return [""]


def _state(page: _Page, label: str, state: ContainerStateUnion) -> None:
    if state.running is not None:
        page.row(2, label, "Running")
        page.row(3, "Started:", page.time(state.running.started_at))
    elif (ended := state.terminated) is not None:
        page.row(2, label, "Terminated")
        for name, value in (("Reason:", ended.reason), ("Message:", ended.message)):
            if value:
                page.row(3, name, value)
        page.row(3, "Exit Code:", str(ended.exit_code))
        page.row(3, "Started:", page.time(ended.started_at))
        page.row(3, "Finished:", page.time(ended.finished_at))
    else:
        page.row(2, label, "Waiting")
        if state.waiting is not None:
            for name, value in (("Reason:", state.waiting.reason), ("Message:", state.waiting.message)):
                if value:
                    page.row(3, name, value)


def _node(page: _Page, node: Node, pods: Sequence[Pod]) -> None:
    _head(page, node)
    page.row(0, "Roles:", node_roles(node))
    _labels(page, node)
    page.row(0, "CreationTimestamp:", page.time(node.metadata.creation_timestamp))
    page.row(0, "Observed Generation:", str(node.status.observed_generation))
    if node.status.conditions:
        page.row(0, "Conditions:")
        _ruled(page, ["Type", "Status", "LastTransitionTime", "Reason", "Message"])
        for c in node.status.conditions:
            page.row(1, c.type, c.status, page.time(c.last_transition_time), c.reason, c.message)
    page.row(0, "Addresses:")
    for address in node.status.addresses:
        page.row(1, f"{address.type}:", address.address)
    _amounts(page, "Capacity:", node.status.capacity)
    _amounts(page, "Allocatable:", node.status.allocatable)
    info = node.status.node_info
    page.row(0, "System Info:")
    for label, value in (
        ("Machine ID:", info.machine_id),
        ("Boot ID:", info.boot_id),
        ("Kernel Version:", info.kernel_version),
        ("OS Image:", info.os_image),
        ("Operating System:", info.operating_system),
        ("Architecture:", info.architecture),
        ("Container Runtime Version:", info.container_runtime_version),
        ("Agent Version:", info.kubelet_version),
    ):
        page.row(1, label, value)
    if node.status.plugins:
        page.row(0, "Plugins:")
        _ruled(page, ["Name", "Version", "State", "Lane", "Reason"])
    for plugin in node.status.plugins:
        page.row(1, plugin.name, plugin.version, plugin.state, plugin.lane, plugin.reason)
    running = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]
    page.row(0, "Non-terminated Pods:", f"({len(running)} in total)")
    if running:
        _ruled(page, ["Namespace", "Name", "Status", "Restarts", "Age"])
    for pod in running:
        summary, meta = summarise_pod(pod), pod.metadata
        since = age(meta.creation_timestamp, page.now)
        page.row(1, meta.namespace, meta.name, summary.status, str(summary.restarts), since)


def _amounts(page: _Page, label: str, amounts: Mapping[str, str]) -> None:
    if amounts:
        page.row(0, label)
    for name, amount in sorted(amounts.items()):
        page.row(1, f"{name}:", amount)


def _ruled(page: _Page, headings: Sequence[str]) -> None:
    page.row(1, *headings)
    page.row(1, *("-" * len(heading) for heading in headings))


def _config_map(page: _Page, item: ConfigMap) -> None:
    _head(page, item)
    _labels(page, item)
    page.blank()
    page.raw("Data\n====")
    for key, value in sorted(item.data.items()):
        page.raw(f"{key}:\n----\n{value}\n")
    page.blank()
    page.raw("BinaryData\n====")
    for key, data in sorted(item.binary_data.items()):
        page.raw(f"{key}: {len(data)} bytes")
    page.blank()


def _secret(page: _Page, item: Secret) -> None:
    _head(page, item)
    _labels(page, item)
    page.blank()
    page.row(0, "Type:", item.type)
    page.blank()
    page.raw("Data\n====")
    sizes = {key: len(data) for key, data in item.data.items()}
    sizes |= {key: len(text.encode()) for key, text in item.string_data.items()}
    for key, size in sorted(sizes.items()):
        page.row(0, f"{key}:", f"{size} bytes")
    page.blank()


def _events(page: _Page, events: Sequence[Event]) -> None:
    if not events:
        page.row(0, "Events:", "<none>")
        return
    page.row(0, "Events:")
    _ruled_events(page)
    for event in sort_for_table(events):
        if isinstance(event, Event):
            source = event.source.component
            page.row(1, event.type, event.reason, _interval(event, page.now), source, event.message.strip())


def _ruled_events(page: _Page) -> None:
    page.row(1, "Type", "Reason", "Age", "From", "Message")
    page.row(1, "----", "------", "----", "----", "-------")


def _interval(event: Event, now: float) -> str:
    first = event.first_timestamp or event.last_timestamp
    if event.count > 1 and seconds_since(event.last_timestamp, now) is not None:
        return f"{age(event.last_timestamp, now)} (x{event.count} over {age(first, now)})"
    return age(first, now)
