"""``edgectl reboot``: a node's machine started anew."""

import argparse
from typing import TYPE_CHECKING

from edgeagent.cli.ctl.errors import CommandError
from edgeagent.cli.ctl.session import server_error, with_hub
from edgeagent.cli.ctl.targets import check_name
from edgeagent.cli.output import escape

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient


def run(options: argparse.Namespace) -> int:
    """Ask the node to restart its machine."""
    node = check_name(options.node)
    return with_hub(options, lambda hub: _reboot(hub, node))


async def _reboot(hub: "HubClient", node: str) -> int:
    from edgeagent.cli.hubconnection import HubUnreachableError
    from edgeagent.wire.rpc import RpcError

    try:
        await hub.reboot(node)
    except RpcError as error:
        raise CommandError(server_error(error)) from None
    except HubUnreachableError as error:
        raise CommandError(
            f"error: {escape(str(error))}\nThe node may be on its way down all the same: see"
            f" `edgectl get node {node}` and `edgectl audit {node}`"
        ) from None
    print(f"node/{escape(node)} is rebooting")
    return 0
