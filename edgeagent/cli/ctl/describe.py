"""``edgectl describe``: all about an object, and what happened to it."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.pod import Pod
from edgeagent.cli.ctl.errors import complain
from edgeagent.cli.ctl.session import decode, fetch, server_error, with_hub
from edgeagent.cli.ctl.targets import Target, namespace_of, parse_selection, scope_of
from edgeagent.cli.describe import describe, events_of

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient


def run(options: argparse.Namespace) -> int:
    """Print a page about each object."""
    targets = parse_selection(options)
    return with_hub(options, lambda hub: _describe_objects(hub, targets, options))


async def _describe_objects(hub: "HubClient", targets: Sequence[Target], options: argparse.Namespace) -> int:
    from edgeagent.wire.rpc import RpcError

    failed = False
    pages: list[str] = []
    for target in targets:
        try:
            found = await fetch(hub, target, options)
            scope = scope_of(target.resource, options)
            involved = target.resource.kind, target.name
            told = await hub.get("Event", namespace=scope, involved=involved) if found else []
            events = [decode(raw) for raw in told]
            nodes = target.resource.kind == "Node" and bool(found)
            pods = [decode(raw) for raw in await hub.get("Pod")] if nodes else []
        except RpcError as error:
            failed = True
            complain(server_error(error, target))
            continue
        for item in found:
            on_node = [
                pod for pod in pods if isinstance(pod, Pod) and pod.spec.node_name == item.metadata.name
            ]
            about = events_of(item, [event for event in events if isinstance(event, Event)])
            pages.append(describe(item, events=about, pods=on_node, now=SystemClock().now()))
    sys.stdout.write("\n\n".join(pages))
    if not pages and not failed:
        somewhere = any(target.resource.namespaced for target in targets)
        where = f" in {namespace_of(options)} namespace." if somewhere else ""
        complain(f"No resources found{where}")
    return 1 if failed else 0
