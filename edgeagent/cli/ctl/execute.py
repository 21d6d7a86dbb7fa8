"""``edgectl exec``: a command in a container, at this terminal."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.ctl.errors import CommandError, UsageError
from edgeagent.cli.ctl.session import PauseTeller, server_error, stream_with_hub
from edgeagent.cli.ctl.targets import namespace_of, pod_name
from edgeagent.cli.streamwords import missing_command, sitting_of

if TYPE_CHECKING:
    from edgeagent.cli.executing import Sitting
    from edgeagent.cli.hubclient import HubClient


def run(options: argparse.Namespace) -> int:
    """Run it; its exit code."""
    if missing := missing_command(options):
        raise UsageError(missing)
    pod = pod_name(options.pod)
    sitting = sitting_of(options)
    return stream_with_hub(options, lambda hub: _execute(hub, pod, sitting, options))


async def _execute(hub: "HubClient", pod: str, sitting: "Sitting", options: argparse.Namespace) -> int:
    from edgeagent.cli.executing import Execution
    from edgeagent.cli.hubstreams import open_stream
    from edgeagent.wire.rpc import RpcError
    from edgeagent.wire.streamapi import EXEC, ExecParams, ExecPrivate

    params = ExecParams(
        namespace=namespace_of(options),
        pod=pod,
        container=options.container,
        stdin=sitting.stdin,
        tty=sitting.terminal is not None,
    )
    size = sitting.size
    private = ExecPrivate(command=options.inner, columns=size.columns, rows=size.rows)
    teller = PauseTeller()
    try:
        async with open_stream(
            hub, EXEC, params, private, on_pause=teller.paused, on_resume=teller.resumed
        ) as channels:
            execution = Execution(channels, sitting, size)
            teller.tell(execution.paused, execution.resumed)
            return await execution.run()
    except RpcError as error:
        raise CommandError(server_error(error)) from None
