"""``edgehub broker``: the configuration of the broker beside the hub."""

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Put it into ``edgehub``'s command line. ``common`` has ``--dir``."""
    broker = commands.add_parser("broker", help="the configuration of the broker beside the hub")
    actions = broker.add_subparsers(required=True, metavar="COMMAND")
    configure = actions.add_parser(
        "configure",
        parents=[common],
        help="write the broker's configuration anew, with or without a listener for enrolment",
        epilog="examples:\n"
        "  edgehub broker configure --enrol-listen 0.0.0.0:8884\n"
        "  edgehub broker configure --no-enrol-listen     nobody enrols for now\n\n"
        "For a cluster made by an older edgehub, or to open and close the listener that anybody may connect\n"
        "to. The configuration before is kept beside the new one. Start the broker and the hub again then.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = configure.add_mutually_exclusive_group()
    which.add_argument(
        "--enrol-listen",
        metavar="ADDR:PORT",
        help="where the broker lets devices without a certificate in, to enrol (default: as it was)",
    )
    which.add_argument("--no-enrol-listen", action="store_true", help="nowhere")
    configure.set_defaults(command=_configure)


def _configure(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import configure_broker
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.wire.join import parse_broker

    files = HubFiles(Path(options.dir).absolute())
    address = parse_broker(options.enrol_listen) if options.enrol_listen else None
    settings = configure_broker(files, SystemClock(), enrol_listen=address, close=options.no_enrol_listen)
    listener = f"{settings.enrol_address}:{settings.enrol_port}" if settings.enrol_port else "closed"
    print(f"{files.mosquitto_config} written (listener for enrolment: {listener})")
    print(f"  start the broker again:  mosquitto -c {files.mosquitto_config}")
    print(f"  and the hub:             edgehub run --dir {files.root}")
    return 0
