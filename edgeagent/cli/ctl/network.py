"""``edgectl network``: a node's network as the node itself shows it."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.ctl.errors import CommandError, UsageError
from edgeagent.cli.ctl.session import server_error, with_hub
from edgeagent.cli.ctl.targets import check_name
from edgeagent.cli.networkview import BadEndsError, show, wanted

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient
    from edgeagent.wire.rpc import NetworkParams


def run(options: argparse.Namespace) -> int:
    """Print what a node says of its network."""
    try:
        node, params = check_name(options.node), wanted(options)
    except BadEndsError as error:
        raise UsageError(str(error)) from None
    return with_hub(options, lambda hub: _print(hub, node, params, options.output))


async def _print(hub: "HubClient", node: str, params: "NetworkParams", output: str) -> int:
    from edgeagent.wire.rpc import RpcError

    try:
        result = await hub.network(node, params)
    except RpcError as error:
        raise CommandError(server_error(error)) from None
    show(result, params.what, output)
    return 0
