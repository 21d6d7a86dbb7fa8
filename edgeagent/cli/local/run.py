"""``edgeagent run``: the agent itself."""

import argparse

from edgeagent.cli.local.place import config_of
from edgeagent.cli.local.words import Commands, new_command


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    new_command(commands, "run", summary="run the agent in the foreground").set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edgeagent.cli.runner import run_agent

    return run_agent(config_of(arguments))
