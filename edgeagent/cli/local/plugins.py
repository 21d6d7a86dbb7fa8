"""``edgeagent plugins list``: what is loaded, or would be, and how it fares."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.cli.local.place import config_of, socket_of
from edgeagent.cli.local.words import Commands, new_command

if TYPE_CHECKING:
    from edgeagent.api.objects.node import PluginStatus

MEBIBYTE = 1024 * 1024


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    plugins = new_command(commands, "plugins", summary="show what is loaded")
    actions = plugins.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every plugin with its state, reason, lane load and memory")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    listing.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.localclient import LocalError, Summary, get
    from edgeagent.cli.output import format_json

    try:
        found = msgspec.json.decode(get(socket_of(arguments), "/edge/v1/status"), type=Summary).status.plugins
    except LocalError as error:
        if error.reason != "NotRunning":
            raise
        found = _discovered(arguments)
        print("the agent is not running: this is what it would load", file=sys.stderr)
    if arguments.output == "json":
        sys.stdout.write(format_json(found))
        return 0
    _print_plugins(found)
    return 0


def _discovered(arguments: argparse.Namespace) -> "list[PluginStatus]":
    """What an agent would load, looked up in this process."""
    import random
    import tempfile
    from pathlib import Path

    from edgeagent.api.clock import SystemClock
    from edgeagent.node.plugins.host import PluginHost

    with tempfile.TemporaryDirectory(prefix="edgeagent-plugins-") as folder:
        host = PluginHost(
            config_of(arguments).plugins,
            node_name="node",
            cluster="none",
            state_dir=Path(folder),
            run_dir=Path(folder),
            identity_dir=Path(folder),
            clock=SystemClock(),
            random=random.Random(),  # noqa: S311 - jitter, not a secret
            on_change=lambda: None,
        )
        host.load()
        return host.statuses()


def _print_plugins(plugins: "Sequence[PluginStatus]") -> None:
    from edgeagent.cli.output import escape

    rows = [("NAME", "DISTRIBUTION", "VERSION", "STATE", "LANE", "BUSY", "QUEUED", "MEMORY", "REASON")]
    for plugin in plugins:
        rows.append(
            (
                plugin.name,
                plugin.distribution,
                plugin.version,
                plugin.state,
                plugin.lane,
                str(plugin.busy),
                str(plugin.queued),
                f"{plugin.memory_bytes / MEBIBYTE:.1f}Mi",
                escape(plugin.reason),
            )
        )
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    for row in rows:
        print("".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
