"""``edgeagent network``: this node's Services, policies, peers, drops and firewall."""

import argparse

from edgeagent.cli.local.place import socket_of
from edgeagent.cli.local.words import Commands, new_command
from edgeagent.cli.networkwords import add_arguments

_EXAMPLES = """\
  edgeagent network                            Services, their endpoints, and how often they were used
  edgeagent network policies                   whom they select, and how much they dropped
  edgeagent network peers                      the ways to other nodes
  edgeagent network drops                      the newest packets that policies dropped
  edgeagent network firewall                   the host's firewall, and how much it dropped
  edgeagent network trace default/web default/db:5432
  edgeagent network trace --protocol UDP default/web [fd43::a]:53
"""


def add_command(commands: Commands) -> None:
    """Put it into the command line."""
    network = new_command(
        commands,
        "network",
        summary="show Services, policies, peers, drops and the firewall, or trace a connection",
        examples=_EXAMPLES,
    )
    add_arguments(network)
    network.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    import msgspec

    from edgeagent.cli.localclient import get
    from edgeagent.cli.networkview import show, wanted
    from edgeagent.wire.rpc import NetworkResult

    asked = wanted(arguments)
    query = {}
    if asked.what == "trace":
        query = {
            "from": asked.source,
            "to": asked.target,
            "port": str(asked.port),
            "protocol": asked.protocol,
        }
    body = get(socket_of(arguments), f"/edge/v1/network/{asked.what}", **query)
    show(msgspec.json.decode(body, type=NetworkResult), asked.what, arguments.output)
    return 0
