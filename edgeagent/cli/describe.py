"""One object told at length, in the layout of ``kubectl describe``, with its events at the end."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo

from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.redaction import sizes
from edgeagent.cli.describe_pod import describe_pod
from edgeagent.cli.output import age, node_roles, seen, sort_for_table
from edgeagent.cli.page import Page, head, labels
from edgeagent.cli.podsummary import summarise_pod


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
    page = Page(now, timezone)
    match item:
        case Pod():
            describe_pod(page, item)
        case Node():
            _node(page, item, pods)
        case ConfigMap():
            _config_map(page, item)
        case Secret():
            _secret(page, item)
        case _:
            head(page, item)
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
        and (not meta.namespace or about.namespace == meta.namespace)
        and (not about.uid or not meta.uid or about.uid == meta.uid)
    ]


def _node(page: Page, node: Node, pods: Sequence[Pod]) -> None:
    head(page, node)
    page.row(0, "Roles:", node_roles(node))
    labels(page, node)
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


def _amounts(page: Page, label: str, amounts: Mapping[str, str]) -> None:
    if amounts:
        page.row(0, label)
    for name, amount in sorted(amounts.items()):
        page.row(1, f"{name}:", amount)


def _ruled(page: Page, headings: Sequence[str]) -> None:
    page.row(1, *headings)
    page.row(1, *("-" * len(heading) for heading in headings))


def _config_map(page: Page, item: ConfigMap) -> None:
    head(page, item)
    labels(page, item)
    page.blank()
    page.raw("Data\n====")
    for key, value in sorted(item.data.items()):
        page.raw(f"{key}:\n----\n{value}\n")
    page.blank()
    page.raw("BinaryData\n====")
    for key, data in sorted(item.binary_data.items()):
        page.raw(f"{key}: {len(data)} bytes")
    page.blank()


def _secret(page: Page, item: Secret) -> None:
    head(page, item)
    labels(page, item)
    page.blank()
    page.row(0, "Type:", item.type)
    page.blank()
    page.raw("Data\n====")
    for key, size in sorted(sizes(item).items()):
        page.row(0, f"{key}:", f"{size} bytes")
    page.blank()


def _events(page: Page, events: Sequence[Event]) -> None:
    if not events:
        page.row(0, "Events:", "<none>")
        return
    page.row(0, "Events:")
    _ruled_events(page)
    for event in sort_for_table(events):
        if isinstance(event, Event):
            source = event.source.component
            page.row(1, event.type, event.reason, seen(event, page.now), source, event.message.strip())


def _ruled_events(page: Page) -> None:
    page.row(1, "Type", "Reason", "Age", "From", "Message")
    page.row(1, "----", "------", "----", "----", "-------")
