"""``edgehub ca``: the cluster's certificate authority, the next one, and who still uses the one before."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeagent.cluster.rotation import Outcome

_ROTATE = """\
examples:
  edgehub ca rotate            a new CA; nodes renew under it by themselves
  edgehub ca status            who still has a certificate of the old one
  edgehub ca rotate --finish   once nobody has: the old one counts no more

Both CAs count until then. Operators get a certificate of the new CA with `edgehub operator add`.
"""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Put it into ``edgehub``'s command line. ``common`` has ``--dir``."""
    ca = commands.add_parser("ca", help="the certificate authority of nodes, operators and the broker")
    actions = ca.add_subparsers(required=True, metavar="COMMAND")
    status = actions.add_parser("status", parents=[common], help="the CAs that count, and who uses which")
    status.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="(default: %(default)s)"
    )
    status.set_defaults(command=_status)
    rotate = actions.add_parser(
        "rotate",
        parents=[common],
        help="make a new CA beside the old one, or retire the old one",
        epilog=_ROTATE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rotate.add_argument("--finish", action="store_true", help="retire all CAs but the newest")
    rotate.add_argument(
        "--force",
        action="store_true",
        help="with --finish: even if some still use them; nodes come back through the enrolment listener",
    )
    rotate.set_defaults(command=_rotate, parser=rotate)


def _status(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock, rfc3339
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.rotation import ca_status

    found = ca_status(HubFiles(Path(options.dir).absolute()), SystemClock())
    if options.output == "json":
        import json

        rows = [
            {
                "name": one.name,
                "issues": one.issues,
                "notBefore": rfc3339(one.not_before),
                "notAfter": rfc3339(one.not_after),
                "nodes": one.nodes,
                "operators": one.operators,
            }
            for one in found
        ]
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len("NAME"), *(len(one.name) for one in found))
    print(f"{'NAME':<{width}}  {'STATE':<8}  {'UNTIL':<20}  {'NODES':>5}  OPERATORS")
    for one in found:
        state = "issues" if one.issues else "believed"
        until = rfc3339(one.not_after)
        print(f"{one.name:<{width}}  {state:<8}  {until:<20}  {len(one.nodes):>5}  {len(one.operators)}")
    for one in found[1:]:
        if users := [*one.nodes, *(f"operator {name}" for name in one.operators)]:
            print(f"\nstill with a certificate of {one.name}: {', '.join(users)}")
    if len(found) > 1 and not any(one.nodes or one.operators for one in found[1:]):
        print("\nnobody uses an older one any more: `edgehub ca rotate --finish` retires it")
    return 0


def _rotate(options: argparse.Namespace) -> int:
    import asyncio
    import random

    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.rotation import finish_rotation, rotate_ca

    if options.force and not options.finish:
        options.parser.error("--force is for --finish")
    files, clock = HubFiles(Path(options.dir).absolute()), SystemClock()
    rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
    if options.finish:
        done = asyncio.run(finish_rotation(files, clock, rng, force=options.force))
        print(f"{done.name} is the only CA that counts now")
    else:
        done = asyncio.run(rotate_ca(files, clock, rng))
        print(f"{done.name} issues from now on; the one before counts until `edgehub ca rotate --finish`")
    return _tell(done)


def _tell(done: "Outcome") -> int:
    if done.problem:
        print(f"the broker: {done.problem}")
    if not done.told:
        print("no running hub was told: nodes hear of it from its next start on (or SIGHUP)")
    return 0
