"""``edgectl logs``: what containers printed, byte for byte, and with ``-f`` what they print."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.cli.ctl.errors import CommandError, UsageError, complain
from edgeagent.cli.ctl.session import PauseTeller, decode, server_error, stream_with_hub
from edgeagent.cli.ctl.targets import namespace_of, pod_name
from edgeagent.cli.output import escape
from edgeagent.cli.streamwords import since_of, tail_of

if TYPE_CHECKING:
    from edgeagent.cli.console import Output
    from edgeagent.cli.hubclient import HubClient

SELECTED_TAIL = 10
"""How many lines of each pod that a selector finds, as kubectl does, where ``--tail`` says nothing."""


def run(options: argparse.Namespace) -> int:
    """Print the logs of a pod, or of those with some labels."""
    if bool(options.pod) == bool(options.selector):
        raise UsageError("give either a POD or a selector (-l)")
    if options.container and options.container_flag:
        raise UsageError("only one of -c or an inline CONTAINER name may be specified")
    container = options.container_flag or options.container or ""
    if container and options.all_containers:
        raise UsageError("--all-containers=true should not be specified with container name " + container)
    if options.follow and options.previous:
        raise UsageError("only one of --follow (-f) or --previous (-p) is allowed: an earlier run has ended")
    pod = pod_name(options.pod) if options.pod else ""
    return stream_with_hub(options, lambda hub: _logs(hub, pod, container, options))


async def _logs(hub: "HubClient", pod: str, container: str, options: argparse.Namespace) -> int:
    from edgeagent.cli.console import STDOUT, Output
    from edgeagent.wire.rpc import RpcError

    try:
        pods = [pod] if pod else await _selected(hub, options)
        if not pods:
            complain(f"No resources found in {namespace_of(options)} namespace.")
            return 0
        output = Output(STDOUT)
        sys.stdout.flush()
        by_line = options.all_containers or len(pods) > 1
        if not options.follow:
            for one in pods:
                if options.prefix:
                    await _follow(hub, one, container, output, by_line, options)
                else:
                    await _print(hub, one, container, options)
            return 0
        try:
            async with asyncio.TaskGroup() as tasks:
                for one in pods:
                    tasks.create_task(_follow(hub, one, container, output, by_line, options))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
    except RpcError as error:
        raise CommandError(server_error(error)) from None
    return 0


async def _selected(hub: "HubClient", options: argparse.Namespace) -> Sequence[str]:
    raw = await hub.get("Pod", namespace=namespace_of(options), labels=options.selector)
    names = sorted(decode(one).metadata.name for one in raw)
    if options.follow and len(names) > options.max_log_requests:
        raise CommandError(
            f"error: you are attempting to follow {len(names)} log streams, but maximum allowed concurrency"
            f" is {options.max_log_requests}, use --max-log-requests to increase the limit"
        )
    return names


async def _print(hub: "HubClient", pod: str, container: str, options: argparse.Namespace) -> None:
    """What there is now, in one answer of the node."""
    from edgeagent.wire.rpc import LogsParams

    since, seconds = since_of(options)
    params = LogsParams(
        namespace=namespace_of(options),
        pod=pod,
        container=container,
        tail_lines=tail_of(options, SELECTED_TAIL if options.selector else None),
        previous=options.previous,
        timestamps=options.timestamps,
        since=since,
        since_seconds=seconds,
        all_containers=options.all_containers,
    )
    result = await hub.logs(params)
    if result.truncated:
        complain(
            "warning: the log is longer than one answer may be; its beginning was left out (see --tail and"
            " --since; -f prints all of it)"
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(result.text)
    sys.stdout.buffer.flush()


async def _follow(
    hub: "HubClient", pod: str, container: str, output: "Output", by_line: bool, options: argparse.Namespace
) -> None:
    from edgeagent.cli.following import print_logs
    from edgeagent.cli.hubstreams import open_stream
    from edgeagent.wire.streamapi import FOLLOW, FollowParams

    since, seconds = since_of(options)
    params = FollowParams(
        namespace=namespace_of(options),
        pod=pod,
        container=container,
        all_containers=options.all_containers,
        tail_lines=tail_of(options, SELECTED_TAIL if options.selector else None),
        since=since,
        since_seconds=seconds,
        previous=options.previous,
        timestamps=options.timestamps,
        follow=options.follow,
    )

    def prefix(name: str) -> str:
        return f"[pod/{pod}/{escape(name)}] " if options.prefix else ""

    teller = PauseTeller()
    async with open_stream(hub, FOLLOW, params, on_pause=teller.paused, on_resume=teller.resumed) as channels:
        await print_logs(channels, output, prefix=prefix, by_line=by_line)
