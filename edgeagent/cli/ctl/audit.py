"""``edgectl audit``: which operator asked for what, as the hub has it from a node, or of itself."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.auditview import show
from edgeagent.cli.ctl.errors import CommandError
from edgeagent.cli.ctl.session import server_error, with_hub
from edgeagent.cli.ctl.targets import check_name

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient


def run(options: argparse.Namespace) -> int:
    """Print the newest rows of an audit log; 1 where something is wrong with the log."""
    node = check_name(options.node) if options.node else ""
    return with_hub(options, lambda hub: _print(hub, node, options))


async def _print(hub: "HubClient", node: str, options: argparse.Namespace) -> int:
    from edgeagent.wire.rpc import RpcError

    try:
        result = await hub.audit(node, options.tail)
    except RpcError as error:
        raise CommandError(server_error(error)) from None
    show(result, options.output)
    return 1 if result.findings else 0
