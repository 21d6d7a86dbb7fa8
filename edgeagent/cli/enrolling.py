"""``edgeagent enroll``: make this machine a node, with a token or with a join file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeagent.node.config import AgentConfig
    from edgeagent.node.identity import IdentityDir
    from edgeagent.wire.join import JoinFile

_EPILOG = """\
examples:
  edgeagent enroll --token abc234.… --cluster plant --broker broker.example.com:8884
  edgeagent enroll --join-file gateway-1.join.json

`edgehub token create` prints the first command whole. The keys are made here and never leave this machine.
Where somebody must approve it, this waits; after Ctrl-C the same command goes on waiting. The name is this
machine's host name unless --name says otherwise.
"""


def add_command(commands: Any, read_config: "Callable[[argparse.Namespace], AgentConfig]") -> None:
    """Put it into ``edgeagent``'s command line."""
    enroll = commands.add_parser(
        "enroll",
        help="make this machine a node of a cluster",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = enroll.add_mutually_exclusive_group(required=True)
    how.add_argument("--token", metavar="TOKEN", help="what `edgehub token create` printed; '-' to read it")
    how.add_argument("--join-file", type=Path, metavar="FILE", help="the file that `edgehub node add` wrote")
    enroll.add_argument("--cluster", metavar="NAME", help="with a token: the cluster's name")
    enroll.add_argument(
        "--broker", metavar="HOST:PORT", help="with a token: the broker's listener for enrolment"
    )
    enroll.add_argument(
        "--name", metavar="NAME", help="with a token: what the node is to be called (default: the host name)"
    )
    enroll.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="with a token: how long the hub may take to answer at all (default: %(default)g);"
        " waiting for approval has no end",
    )
    enroll.add_argument(
        "--seal-keys",
        nargs="?",
        const="auto",
        choices=("auto", "host", "tpm2"),
        help="keep the private keys sealed by systemd-creds, so that this machine alone can open them: with"
        " its TPM (tpm2), with a file of systemd's (host), or with whichever there is (auto, the default)",
    )
    enroll.add_argument("--force", action="store_true", help="take the place of an earlier enrolment")
    enroll.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="(default: %(default)s)"
    )
    enroll.set_defaults(command=lambda arguments: _enroll(arguments, read_config(arguments)))


def _enroll(arguments: argparse.Namespace, config: "AgentConfig") -> int:
    import random

    from edgeagent.api.clock import SystemClock
    from edgeagent.api.errors import PermanentError
    from edgeagent.cli.ownerprocess import keep_to_owner
    from edgeagent.node.identity import read_join_file
    from edgeagent.node.identityguard import identity_dir
    from edgeagent.node.renewalschedule import plan_first

    keep_to_owner()
    directory = identity_dir(config, arguments.seal_keys or "")
    if arguments.token and (missing := [one for one in ("cluster", "broker") if not getattr(arguments, one)]):
        raise PermanentError(
            f"--token needs --{' and --'.join(missing)}: `edgehub token create` prints the whole command"
        )
    join = read_join_file(arguments.join_file) if arguments.join_file else None
    if directory.exists() and not arguments.force:
        known = directory.load()
        raise PermanentError(
            f"this machine is node {known.node!r} of cluster {known.cluster!r} already. "
            f"To enrol it anew, add --force"
        )
    if join is None:
        join = _ask(arguments, config, directory)
    try:
        identity = directory.write(join)
    except OSError as error:
        why = error.strerror or error
        raise PermanentError(f"the identity cannot be kept in {directory.path}: {why}") from None
    if arguments.token:
        from edgeagent.node.enrolment import PendingKeys

        PendingKeys(directory).forget()
    rng = random.Random()  # noqa: S311 - spreads renewals, guards nothing
    plan_first(directory, rng, SystemClock().now())
    brokers = [f"{broker.host}:{broker.port}" for broker in identity.brokers]
    if arguments.output == "json":
        import json

        print(json.dumps({"node": identity.node, "cluster": identity.cluster, "brokers": brokers}, indent=2))
    else:
        where = ", ".join(brokers)
        print(f"enrolled as node {identity.node!r} of cluster {identity.cluster!r} (broker {where})")
        if arguments.join_file:
            print(f"now delete {arguments.join_file}: it holds this node's private keys")
    return 0


def _ask(arguments: argparse.Namespace, config: "AgentConfig", directory: "IdentityDir") -> "JoinFile":
    import asyncio
    import random
    import socket

    from edgeagent.api.clock import SystemClock
    from edgeagent.api.errors import PermanentError
    from edgeagent.cli.output import escape
    from edgeagent.node.enrolment import Wish, enrol
    from edgeagent.node.identity import lone_name
    from edgeagent.wire.enrolment import parse_token
    from edgeagent.wire.join import parse_broker

    # On the command line a token is seen by everybody on the machine; from standard input it is not.
    text = arguments.token
    if text == "-":
        text = sys.stdin.readline(200)
    wish = Wish(
        cluster=arguments.cluster,
        node=arguments.name or lone_name(config.agent.node_name, socket.gethostname()),
        token=parse_token(text),
        broker=parse_broker(arguments.broker),
        patience=arguments.timeout,
    )

    def progress(words: str) -> None:
        print(f"edgeagent: {escape(words)}", file=sys.stderr, flush=True)

    progress(f"asking to become node {wish.node!r} of cluster {wish.cluster!r}")
    rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
    try:
        return asyncio.run(enrol(directory, wish, clock=SystemClock(), rng=rng, progress=progress))
    except PermanentError as error:
        # What a stranger in the hub's place says must not steer the terminal.
        raise PermanentError(escape(str(error)), reason=error.reason) from None
