"""``edgehub token`` and ``edgehub enrolment``: who may become a node, and who waits for it."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeagent.cluster.admin import Decided, NewToken
    from edgeagent.cluster.enrolment import Enrolment
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.tokens import Token


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Put both into ``edgehub``'s command line. ``common`` has ``--dir``."""
    token = commands.add_parser("token", help="let devices enrol by themselves: create, list, delete")
    actions = token.add_subparsers(required=True, metavar="COMMAND")
    create = actions.add_parser(
        "create",
        parents=[common],
        help="make a token, and print the command to run on the device",
        epilog="examples:\n"
        "  edgehub token create                                one device, any name, within an hour\n"
        "  edgehub token create --ttl 8h --uses 20 --name 'gateway-*'\n"
        "  edgehub token create --approval manual              somebody looks at each request\n"
        "  edgehub token create --replace --name gateway-1     a new board in the place of a dead one\n\n"
        "The token is shown once and not kept. Whoever has it can become a node, within its rules.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    create.add_argument(
        "--ttl", default="1h", metavar="DURATION", help="how long it may be used (default: %(default)s)"
    )
    create.add_argument(
        "--uses", type=int, default=1, metavar="N", help="for how many devices (default: %(default)s)"
    )
    create.add_argument(
        "--name",
        default="*",
        metavar="PATTERN",
        help="what the node may be called: '*' stands for any letters, '?' for one (default: any name)",
    )
    create.add_argument(
        "--approval",
        choices=("automatic", "manual"),
        default="automatic",
        help="whether somebody must `edgehub enrolment approve` each device (default: %(default)s)",
    )
    create.add_argument(
        "--replace",
        action="store_true",
        help="the device may take the place of a node that exists, whose certificate is then revoked;"
        " with --name",
    )
    _add_output(create, "text")
    create.set_defaults(command=_create)
    listing = actions.add_parser("list", parents=[common], help="list the tokens, without their secrets")
    _add_output(listing)
    listing.set_defaults(command=_list)
    delete = actions.add_parser(
        "delete",
        parents=[common],
        help="end a token",
        epilog="example:\n  edgehub token delete abc234",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    delete.add_argument("id", metavar="ID", help="what stands before the dot")
    _add_output(delete, "text")
    delete.set_defaults(command=_delete)

    enrolment = commands.add_parser("enrolment", help="devices that wait for approval")
    decisions = enrolment.add_subparsers(required=True, metavar="COMMAND")
    waiting = decisions.add_parser(
        "list", parents=[common], help="list the devices that asked to become nodes, and what became of it"
    )
    _add_output(waiting)
    waiting.set_defaults(command=_waiting)
    approve = decisions.add_parser(
        "approve",
        parents=[common],
        help="make a device that waits a node",
        epilog="example:\n  edgehub enrolment approve gateway-1\n\n"
        "Compare the key that `edgehub enrolment list` shows with the one that the device shows.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    approve.set_defaults(command=_approve)
    deny = decisions.add_parser(
        "deny",
        parents=[common],
        help="refuse a device that waits",
        epilog="example:\n  edgehub enrolment deny gateway-1 --message 'not ordered by us'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    deny.add_argument("--message", default="", metavar="TEXT", help="what the device is told")
    deny.set_defaults(command=_deny)
    for decision in (approve, deny):
        decision.add_argument("name", metavar="NAME")
        _add_output(decision, "text")


def _add_output(parser: argparse.ArgumentParser, people: str = "table") -> None:
    parser.add_argument(
        "-o", "--output", choices=(people, "json"), default=people, help="(default: %(default)s)"
    )


def _files(options: argparse.Namespace) -> "HubFiles":
    from edgeagent.cluster.layout import HubFiles

    return HubFiles(Path(options.dir).absolute())


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))


def _print_rows(rows: "Sequence[Sequence[str]]") -> None:
    widths = [max(len(row[column]) for row in rows) + 3 for column in range(len(rows[0]))]
    for row in rows:
        print("".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _create(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.api.errors import InvalidObjectError
    from edgeagent.cluster.admin import create_token
    from edgeagent.cluster.tokens import TokenRules
    from edgeagent.node.pressure.amounts import parse_duration

    try:
        ttl = parse_duration(options.ttl)
    except ValueError as error:
        raise InvalidObjectError("ttl", str(error)) from None
    rules = TokenRules(
        ttl=ttl, uses=options.uses, names=options.name, approval=options.approval, replace=options.replace
    )
    made = create_token(_files(options), rules, SystemClock())
    command = _device_command(made)
    token = made.token
    if options.output == "json":
        _print_json({**_token_data(token), "token": made.text, "command": command})
        return 0
    uses = "one device" if token.uses == 1 else f"{token.uses} devices"
    print(f"token {token.id} made for {uses}, until {_time(token.expires)}, {_names(token)}")
    print(f"  on the device:  {command}")
    if token.approval == "manual":
        print("  then, here:     edgehub enrolment list; edgehub enrolment approve NAME")
    return 0


def _device_command(made: "NewToken") -> str:
    import shlex

    host = f"[{made.broker.host}]" if ":" in made.broker.host else made.broker.host
    words = ["edgeagent", "enroll", "--token", made.text, "--cluster", made.cluster]
    words += ["--broker", f"{host}:{made.broker.port}"]
    if made.token.names != "*":
        words += ["--name", "NAME" if set(made.token.names) & set("*?") else made.token.names]
    return shlex.join(words)


def _names(token: "Token") -> str:
    names = "under any name" if token.names == "*" else f"called {token.names}"
    return f"{names}, {'taking the place of a node' if token.replace else 'new'}, approval {token.approval}"


def _time(seconds: float) -> str:
    from edgeagent.api.clock import rfc3339

    return rfc3339(seconds)


def _token_data(token: "Token") -> dict[str, object]:
    import time

    return {
        "id": token.id,
        "state": token.state(time.time()),
        "created": _time(token.created),
        "expires": _time(token.expires),
        "uses": token.uses,
        "used": token.used,
        "names": token.names,
        "approval": token.approval,
        "replace": token.replace,
        "failed": token.failed,
    }


def _list(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import list_tokens

    tokens = [_token_data(token) for token in list_tokens(_files(options), SystemClock())]
    if options.output == "json":
        _print_json(tokens)
    elif not tokens:
        print("no tokens: `edgehub token create` makes one", file=sys.stderr)
    else:
        rows = [["ID", "STATE", "EXPIRES", "USED", "NAMES", "APPROVAL", "REPLACE", "FAILED"]]
        for token in tokens:
            shown = [token[key] for key in ("id", "state", "expires")]
            shown += [f"{token['used']}/{token['uses']}"]
            shown += [token["names"], token["approval"], "yes" if token["replace"] else "no", token["failed"]]
            rows.append([str(one) for one in shown])
        _print_rows(rows)
    return 0


def _delete(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import delete_token

    token = delete_token(_files(options), options.id, SystemClock())
    if options.output == "json":
        _print_json({"id": token.id, "state": "Deleted"})
    else:
        print(f"token {token.id} deleted; what was enrolled with it stays")
    return 0


def _enrolment_data(enrolment: "Enrolment") -> dict[str, object]:
    return {
        "node": enrolment.node,
        "state": enrolment.state,
        "token": enrolment.token,
        "requested": _time(enrolment.created),
        "key": enrolment.fingerprint,
        "reason": enrolment.reason,
        "message": enrolment.message,
    }


def _waiting(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import list_enrolments

    found = list_enrolments(_files(options), SystemClock())
    if options.output == "json":
        _print_json([_enrolment_data(one) for one in found])
    elif not found:
        print("no device has asked: `edgehub token create` makes a token to ask with", file=sys.stderr)
    else:
        rows = [["NODE", "STATE", "TOKEN", "REQUESTED", "KEY"]]
        rows += [[one.node, one.state, one.token, _time(one.created), one.fingerprint] for one in found]
        _print_rows(rows)
    return 0


def _approve(options: argparse.Namespace) -> int:
    import asyncio

    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import approve

    return _show(options, asyncio.run(approve(_files(options), options.name, SystemClock())))


def _deny(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import deny

    return _show(options, deny(_files(options), options.name, options.message, SystemClock()))


def _show(options: argparse.Namespace, decided: "Decided") -> int:
    enrolment, enforcement = decided.enrolment, decided.enforcement
    if options.output == "json":
        _print_json(_enrolment_data(enrolment))
    else:
        print(f"{enrolment.node} {enrolment.state} (key {enrolment.fingerprint})")
        if decided.hub_told:
            print("  the hub tells the device")
        else:
            print(
                "  no running hub was told: the device hears of it when it asks again, within a minute or so"
            )
    if enforcement is not None and enforcement.problem:
        print(f"warning: {enforcement.problem}", file=sys.stderr)
    return 0
