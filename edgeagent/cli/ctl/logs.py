"""``edgectl logs``: what a container printed, byte for byte."""

import argparse
import sys
from typing import TYPE_CHECKING

from edgeagent.cli.ctl.errors import CommandError, UsageError, complain
from edgeagent.cli.ctl.session import server_error, with_hub
from edgeagent.cli.ctl.targets import Target, check_name, namespace_of, parse_targets
from edgeagent.cli.resources import find_resource

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient


def run(options: argparse.Namespace) -> int:
    """Print a container's log."""
    word = options.pod
    if "/" in word:
        targets = parse_targets([word])
        if targets[0].resource.kind != "Pod":
            raise UsageError(f"logs are of pods, not of {targets[0].resource.plural}")
        word = targets[0].name
    if options.container and options.container_flag:
        raise UsageError("only one of -c or an inline CONTAINER name may be specified")
    container = options.container_flag or options.container or ""
    return with_hub(
        options,
        lambda hub: _print_logs(hub, Target(find_resource("pod"), check_name(word)), container, options),
    )


async def _print_logs(hub: "HubClient", target: Target, container: str, options: argparse.Namespace) -> int:
    from edgeagent.wire.rpc import LogsParams, RpcError

    params = LogsParams(
        namespace=namespace_of(options),
        pod=target.name,
        container=container,
        tail_lines=options.tail,
        previous=options.previous,
        timestamps=options.timestamps,
    )
    try:
        result = await hub.logs(params)
    except RpcError as error:
        raise CommandError(server_error(error)) from None
    if result.truncated:
        complain("warning: the log is longer than one answer may be; its beginning was left out (see --tail)")
    sys.stdout.flush()
    sys.stdout.buffer.write(result.text)
    sys.stdout.buffer.flush()
    return 0
