"""``edgeagent exec``: a command in a container of this node, at this terminal, without a network."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, add_namespace, new_command
from edgeagent.cli.streamwords import add_exec_arguments, missing_command, sitting_of

if TYPE_CHECKING:
    from pathlib import Path

    from edgeagent.cli.executing import Sitting
    from edgeagent.wire.streamapi import ExecParams, ExecPrivate

_EXAMPLES = """\
  edgeagent exec web -- ls -l /data
  edgeagent exec -it web -c main -- sh         a shell, at this terminal
  edgeagent exec -i web -- sh -c 'cat > /data/x' < x

The command's exit code is that of edgeagent. Without a terminal, ^C ends it with 130."""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    execute = new_command(commands, "exec", summary="run a command in a container", examples=_EXAMPLES)
    add_exec_arguments(execute)
    add_namespace(execute)
    execute.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edgeagent.api.errors import PermanentError
    from edgeagent.cli.ending import run_to_end
    from edgeagent.wire.streamapi import ExecParams, ExecPrivate

    if missing := missing_command(arguments):
        raise PermanentError(missing)
    sitting = sitting_of(arguments)
    params = ExecParams(
        namespace=arguments.namespace,
        pod=arguments.pod.removeprefix("pod/"),
        container=arguments.container,
        stdin=sitting.stdin,
        tty=sitting.terminal is not None,
    )
    size = sitting.size
    private = ExecPrivate(command=arguments.inner, columns=size.columns, rows=size.rows)
    return run_to_end(_execute(socket_of(arguments), params, private, sitting))


async def _execute(socket: "Path", params: "ExecParams", private: "ExecPrivate", sitting: "Sitting") -> int:
    from edgeagent.cli.executing import Execution
    from edgeagent.cli.localstreams import open_local_stream
    from edgeagent.cli.terminal import Size
    from edgeagent.wire.streamapi import EXEC

    async with open_local_stream(socket, EXEC, params, private) as channels:
        began = Size(private.columns, private.rows)
        return await Execution(channels, sitting, began).run()
