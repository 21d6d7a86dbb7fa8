"""``edgectl get``: objects as a table, as JSON or YAML, or by name."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.cli.ctl.errors import UsageError, complain
from edgeagent.cli.ctl.session import fetch, server_error, with_hub
from edgeagent.cli.ctl.targets import Target, namespace_of, parse_selection
from edgeagent.cli.output import OutputFormat, print_objects, sort_for_table, wants_colour

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient


def run(options: argparse.Namespace) -> int:
    """Print the objects once, or go on printing changes. ``edgectl events`` is this for Events."""
    if options.command == "events":
        options.target, options.selector = ["events"], None
    targets = parse_selection(options)
    if (options.about or options.types) and {target.resource.kind for target in targets} != {"Event"}:
        raise UsageError("--for and --types are for events alone")
    if options.watch and len({target.resource.kind for target in targets}) + len(targets) > 2:
        raise UsageError("you may only specify a single resource type, and one name, to watch")
    if options.watch:
        from edgeagent.cli.ctl.watch import watch_objects

        return with_hub(options, lambda hub: watch_objects(hub, targets[0], options))
    return with_hub(options, lambda hub: _get_objects(hub, targets, options))


async def _get_objects(hub: "HubClient", targets: Sequence[Target], options: argparse.Namespace) -> int:
    from edgeagent.wire.rpc import RpcError

    found: list[KubernetesObject] = []
    failed = False
    for target in targets:
        try:
            found += await fetch(hub, target, options)
        except RpcError as error:
            failed = True
            complain(server_error(error, target))
    single = len(targets) == 1 and bool(targets[0].name)
    output: OutputFormat = options.output
    found = sort_for_table(found)
    if found or (output in ("json", "yaml") and not failed):
        print_objects(
            found,
            out=sys.stdout,
            now=SystemClock().now(),
            output=output,
            single=single,
            headers=not options.no_headers,
            with_namespace=options.all_namespaces,
            with_kind=len({target.resource.kind for target in targets}) > 1,
            colour=wants_colour(sys.stdout),
            counted=options.command == "events" and output == "table",
        )
    elif not failed:
        everywhere = options.all_namespaces or not any(target.resource.namespaced for target in targets)
        where = "" if everywhere else f" in {namespace_of(options)} namespace."
        complain(f"No resources found{where}")
    return 1 if failed else 0
