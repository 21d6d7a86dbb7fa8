"""``edgectl top``: what nodes and pods use now, each node asked itself."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import Pod
from edgeagent.cli.ctl.errors import CommandError, UsageError, complain
from edgeagent.cli.ctl.session import decode, fetch, server_error, with_hub
from edgeagent.cli.ctl.targets import Target, check_name, namespace_of
from edgeagent.cli.output import escape, format_json
from edgeagent.cli.resources import find_resource

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient
    from edgeagent.wire.top import TopResult

AT_ONCE = 16
"""How many nodes are asked at a time."""


def run(options: argparse.Namespace) -> int:
    """Print a table, or JSON in the shapes of Kubernetes' metrics API."""
    target = Target(find_resource(options.what), check_name(options.name) if options.name else "")
    if target.name and options.selector:
        raise UsageError("only one of NAME or --selector can be provided")
    if target.name and options.all_namespaces:
        raise UsageError("a pod cannot be retrieved by name across all namespaces")
    if target.resource.kind == "Node":
        if options.containers:
            raise UsageError("--containers is for pods alone")
        return with_hub(options, lambda hub: _top_nodes(hub, target, options))
    return with_hub(options, lambda hub: _top_pods(hub, target, options))


async def _top_nodes(hub: "HubClient", target: Target, options: argparse.Namespace) -> int:
    from edgeagent.cli.topview import node_lines
    from edgeagent.wire.rpc import RpcError

    try:
        nodes = [one for one in await fetch(hub, target, options) if isinstance(one, Node)]
    except RpcError as error:
        raise CommandError(server_error(error, target)) from None
    if not nodes:
        complain("No resources found")
        return 0
    found, failures = await _ask(nodes, hub.top)
    if target.name and failures:
        raise failures[target.name]
    measured = {name: result.node for name, result in found.items() if result.node is not None}
    if options.output == "json":
        _print_json("NodeMetricsList", list(measured.values()), one=bool(target.name))
    else:
        rows = [
            (node.metadata.name, measured.get(node.metadata.name), node.status.allocatable) for node in nodes
        ]
        _print(node_lines(rows, by=options.sort_by, headers=not options.no_headers))
    return _tell(failures, found)


async def _top_pods(hub: "HubClient", target: Target, options: argparse.Namespace) -> int:
    from edgeagent.cli.topview import pod_lines
    from edgeagent.wire.rpc import RpcError

    try:
        pods = [one for one in await fetch(hub, target, options) if isinstance(one, Pod)]
        wanted = {(pod.metadata.namespace, pod.metadata.name) for pod in pods}
        names = {pod.spec.node_name for pod in pods if pod.spec.node_name}
        nodes = [node for raw in await hub.get("Node") if isinstance(node := decode(raw), Node)]
    except RpcError as error:
        raise CommandError(server_error(error, target)) from None
    if not pods:
        complain(
            "No resources found"
            + ("" if options.all_namespaces else f" in {namespace_of(options)} namespace.")
        )
        return 0
    namespace = "" if options.all_namespaces else namespace_of(options)
    asked = [node for node in nodes if node.metadata.name in names]
    found, failures = await _ask(asked, lambda node: hub.top_pods(node, namespace, target.name))
    if target.name and failures:
        raise next(iter(failures.values()))
    shown = [
        pod
        for result in found.values()
        for pod in result.pods
        if (pod.metadata.namespace, pod.metadata.name) in wanted
    ]
    for name, result in found.items():
        if result.truncated:
            complain(f"warning: node {escape(name)} has more pods than one answer may tell of")
    if options.output == "json":
        _print_json("PodMetricsList", shown, one=bool(target.name))
    elif shown:
        _print(
            pod_lines(
                shown,
                by=options.sort_by,
                headers=not options.no_headers,
                namespaces=options.all_namespaces,
                containers=options.containers,
            )
        )
    elif not failures:
        complain("No metrics found: no container of these pods runs")
    return _tell(failures, found)


async def _ask(
    nodes: Iterable[Node], call: "Callable[[str], Awaitable[TopResult]]"
) -> "tuple[dict[str, TopResult], dict[str, CommandError]]":
    """What each node answers, and why others do not."""
    from edgeagent.wire.rpc import RpcError

    found: dict[str, TopResult] = {}
    failures: dict[str, CommandError] = {}
    room = asyncio.Semaphore(AT_ONCE)

    async def one(node: Node) -> None:
        name = node.metadata.name
        if _is_away(node):
            failures[name] = CommandError(f"error: node {escape(name)} is not connected: it cannot be asked")
            return
        async with room:
            try:
                found[name] = await call(name)
            except RpcError as error:
                failures[name] = CommandError(server_error(error))
            except EdgeAgentError as error:
                failures[name] = CommandError(f"error: node {escape(name)}: {escape(str(error))}")

    async with asyncio.TaskGroup() as tasks:
        for node in nodes:
            tasks.create_task(one(node))
    return dict(sorted(found.items())), dict(sorted(failures.items()))


def _is_away(node: Node) -> bool:
    """Whether the hub knows that the node has no connection."""
    return any(one.type == "Ready" and one.status == "Unknown" for one in node.status.conditions)


def _tell(failures: "dict[str, CommandError]", found: object) -> int:
    """Say who did not answer; 1 where nobody did."""
    for error in failures.values():
        complain(str(error).replace("error: ", "warning: ", 1))
    return 1 if failures and not found else 0


def _print(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _print_json(kind: str, items: Sequence[object], *, one: bool) -> None:
    from edgeagent.cli.output import to_plain
    from edgeagent.wire.top import METRICS_API

    if one and len(items) == 1:
        sys.stdout.write(format_json(items[0]))
        return
    plain = [to_plain(item) for item in items]
    sys.stdout.write(format_json({"apiVersion": METRICS_API, "kind": kind, "items": plain, "metadata": {}}))
