"""``edgehub``: make a cluster, run its hub, let nodes in and out, rotate the signing key.

Parses arguments, calls one thing, prints. Nothing heavy is imported before a command needs it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.cli import hubbroker, hubca, hubnodes, huboperators, hubtokens
from edgeagent.cli.ownerprocess import keep_to_owner

if TYPE_CHECKING:
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.wire.join import BrokerAddress

DEFAULT_DIRECTORY = Path("/var/lib/edgehub")

_EXAMPLES = """\
examples:
  edgehub init --cluster plant --broker broker.example.com:8883
  mosquitto -c /var/lib/edgehub/mosquitto/mosquitto.conf
  edgehub run
  edgehub token create --name 'gateway-*' --uses 10
  edgehub node add gateway-1 --output gateway-1.join.json
  edgehub operator add ann --role viewer --output ann.json

On the device, the `edgeagent enroll --token …` that `edgehub token create` prints makes it a node, or, where
there is no network, `edgeagent enroll --join-file gateway-1.join.json`. The operator's file that
`edgehub init` wrote is for edgectl: copy it to ~/.config/edgeagent/operator.json.

exit codes: 0 done, 1 it could not be done (the reason is on standard error), 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(argv)
    keep_to_owner()
    from edgeagent.api.errors import EdgeAgentError

    try:
        return int(options.command(options))
    except EdgeAgentError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _parser() -> argparse.ArgumentParser:
    from edgeagent import __version__

    parser = argparse.ArgumentParser(
        prog="edgehub",
        description="The cluster side of edgeagent, beside the MQTT broker.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgehub {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir",
        type=Path,
        default=DEFAULT_DIRECTORY,
        metavar="DIR",
        help="the hub's directory (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser(
        "init",
        parents=[common],
        help="make a new cluster: CA, signing key, broker configuration, an operator's file",
        epilog="example:\n  edgehub init --dir ./hub --cluster plant --broker broker.example.com:8883",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument(
        "--cluster", required=True, metavar="NAME", help="letters, digits and '-'; stands in every topic"
    )
    make.add_argument(
        "--broker",
        required=True,
        action="append",
        metavar="HOST:PORT",
        help="where nodes and operators reach the broker; more than once for several addresses",
    )
    make.add_argument(
        "--listen",
        metavar="ADDR:PORT",
        help="where the broker beside the hub binds (default: 0.0.0.0 and the first broker's port)",
    )
    make.add_argument(
        "--enrol-listen",
        metavar="ADDR:PORT",
        help="where the broker lets devices without a certificate in, to enrol with a token"
        " (default: the same address and the port after the first broker's)",
    )
    make.add_argument(
        "--operator", default="admin", metavar="NAME", help="the first operator (default: %(default)s)"
    )
    make.add_argument(
        "--pod-cidr",
        action="append",
        metavar="RANGE",
        help="addresses of all pods, of which each node gets a part (default: 10.42.0.0/16);"
        " twice for IPv4 and IPv6",
    )
    make.add_argument(
        "--service-cidr",
        action="append",
        metavar="RANGE",
        help="addresses of Services (default: 10.43.0.0/16); twice for IPv4 and IPv6",
    )
    make.add_argument(
        "--overlay",
        choices=("vxlan", "wireguard", "route", "none"),
        default="vxlan",
        help="how nodes reach each other's pods (default: %(default)s)",
    )
    make.set_defaults(command=_init)

    run = commands.add_parser(
        "run",
        parents=[common],
        help="run the hub until SIGTERM",
        epilog="metrics.toml in DIR, if there is one, says where nodes' metrics are shown and passed on:\n"
        '  [listen]\n  port = 19101\n  [remote_write]\n  url = "http://127.0.0.1:9090/api/v1/write"\n'
        "all keys: docs/metrics.md",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("-v", "--verbose", action="store_true", help="log more")
    run.set_defaults(command=_run)

    hubtokens.add_commands(commands, common)
    hubnodes.add_commands(commands, common)
    hubbroker.add_commands(commands, common)
    huboperators.add_commands(commands, common)
    hubca.add_commands(commands, common)

    keys = commands.add_parser("keys", help="the keys that sign desired state and encrypt the database")
    key_commands = keys.add_subparsers(required=True, metavar="COMMAND")
    rotate = key_commands.add_parser(
        "rotate",
        parents=[common],
        help="make a new signing key, which nodes follow; or a new key of the database",
        epilog="examples:\n  edgehub keys rotate             what signs desired state\n"
        "  edgehub keys rotate --at-rest   what Secrets and tokens in hub.db are encrypted with",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rotate.add_argument(
        "--at-rest",
        action="store_true",
        help="encrypt the database's Secrets and tokens with a new key; older backups need the key of their"
        " time (hub.db.key)",
    )
    rotate.set_defaults(command=_rotate)
    return parser


def _files(options: argparse.Namespace) -> "HubFiles":
    from edgeagent.cluster.layout import HubFiles

    return HubFiles(Path(options.dir).absolute())


def _address(text: str) -> "BrokerAddress":
    from edgeagent.wire.join import parse_broker

    return parse_broker(text)


def _init(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.allocation import ClusterNetwork
    from edgeagent.cluster.init import init

    ranges = {"pod_cidrs": options.pod_cidr, "service_cidrs": options.service_cidr}
    network = ClusterNetwork(
        overlay=options.overlay, **{name: given for name, given in ranges.items() if given}
    )
    files = init(
        options.dir,
        options.cluster,
        [_address(text) for text in options.broker],
        listen=_address(options.listen) if options.listen else None,
        enrol_listen=_address(options.enrol_listen) if options.enrol_listen else None,
        operator=options.operator,
        network=network,
        clock=SystemClock(),
    )
    print(f"cluster {options.cluster} made in {files.root}")
    print(f"  start the broker:  mosquitto -c {files.mosquitto_config}")
    print(f"  run the hub:       edgehub run --dir {files.root}")
    print(f"  let a device in:   edgehub token create --dir {files.root}")
    print(f"  for edgectl:       {files.operator} (keep it secret, as all keys here)")
    return 0


def _run(options: argparse.Namespace) -> int:
    import asyncio
    import logging
    import signal

    from edgeagent.cli.logs import configure

    level = logging.DEBUG if options.verbose else logging.INFO
    configure(level, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    from edgeagent.cluster.hub import Hub

    async def run() -> None:
        hub = Hub(_files(options).root)
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(hub.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    asyncio.run(run())
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from edgeagent.cluster.nodes import rotate_keys, rotate_storage_key

    files = _files(options)
    if options.at_rest:
        rotate_storage_key(files)
        print(
            f"all Secrets and tokens in {files.database} are encrypted with a new key, {files.database_key}"
        )
        print("  keep a copy of it with each backup of the database: neither is of use without the other")
        return 0
    serial, told = rotate_keys(files)
    print(f"signing key {serial} made; nodes follow the chain from the key they have")
    if told:
        print("the running hub signs everything anew with it")
    else:
        print("no running hub was told: it signs with the new key from its next start (or SIGHUP)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
