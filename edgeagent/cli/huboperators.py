"""``edgehub operator`` and ``edgehub audit``: who may call the hub, and what is wrong with audit logs."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Put both into ``edgehub``'s command line. ``common`` has ``--dir``."""
    operator = commands.add_parser("operator", help="add, list and revoke operators")
    actions = operator.add_subparsers(required=True, metavar="COMMAND")
    add = actions.add_parser(
        "add",
        parents=[common],
        help="make an operator's file, and bind a role to the name",
        epilog="examples:\n"
        "  edgehub operator add ann --role viewer --output ann.json\n"
        "  edgehub operator add ben --role operator --namespace shop --namespace till\n\n"
        "viewer    may look, and read logs\n"
        "operator  may also change pods, ConfigMaps, Services and NetworkPolicies, and enter pods\n"
        "admin     may do everything, where the role is bound\n\n"
        "Without --namespace the role is for all namespaces and for the cluster itself. An operator that\n"
        "exists gets the role beside the others, and a second file. The file holds the private key: whoever\n"
        "has it is the operator.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add.add_argument("name", metavar="NAME", help="letters, digits and '-'")
    add.add_argument("--role", required=True, choices=("viewer", "operator", "admin"), help="what it may do")
    add.add_argument(
        "--namespace", action="append", default=[], metavar="NS", help="only there; may be repeated"
    )
    add.add_argument(
        "--output",
        metavar="FILE",
        help="the operator file (default: NAME.operator.json; '-': standard output)",
    )
    add.set_defaults(command=_add)
    listing = actions.add_parser("list", parents=[common], help="list the operators with their roles")
    listing.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="(default: %(default)s)"
    )
    listing.set_defaults(command=_list)
    revoke = actions.add_parser(
        "revoke",
        parents=[common],
        help="refuse an operator's certificates from now on, and take the roles away",
        epilog="example:\n  edgehub operator revoke ann",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(command=_revoke)

    audit = commands.add_parser("audit", help="what was found wrong with nodes' audit logs")
    audit_actions = audit.add_subparsers(required=True, metavar="COMMAND")
    acknowledge = audit_actions.add_parser(
        "acknowledge",
        parents=[common],
        help="forget what was found, once you know why",
        epilog="example:\n  edgehub audit acknowledge gateway-1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    acknowledge.add_argument("node", metavar="NODE")
    acknowledge.set_defaults(command=_acknowledge)


def _add(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.operators import add_operator, encode_operator

    output = Path(options.output or f"{options.name}.operator.json")
    to_terminal = options.output == "-"
    made = add_operator(
        HubFiles(Path(options.dir).absolute()),
        options.name,
        options.role,
        SystemClock(),
        namespaces=options.namespace,
        output=None if to_terminal else output,
    )
    if to_terminal:
        sys.stdout.write(encode_operator(made).decode())
    else:
        where = f"in {', '.join(options.namespace)}" if options.namespace else "for the cluster"
        print(f"operator {options.name} is {options.role} {where}; the file is {output}")
        print("  copy it to ~/.config/edgeagent/operator.json of that person, and delete it here")
    return 0


def _list(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import rfc3339
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.operators import list_operators

    found = list_operators(HubFiles(Path(options.dir).absolute()))
    if options.output == "json":
        import json

        rows = [
            {
                "name": one.name,
                "roles": [{"role": role, "namespace": namespace} for role, namespace in one.roles],
                "certificateSerial": one.certificate.serial if one.certificate else "",
                "notAfter": rfc3339(one.certificate.not_after) if one.certificate else "",
                "revoked": one.revoked,
            }
            for one in found
        ]
        print(json.dumps(rows, indent=2))
    elif not found:
        print("no operators: `edgehub operator add NAME --role admin` adds one", file=sys.stderr)
    else:
        print(f"{'NAME':<24}{'STATE':<15}{'EXPIRES':<24}ROLES")
        for one in found:
            state = "Revoked" if one.revoked else "Active" if one.certificate else "NoCertificate"
            expires = rfc3339(one.certificate.not_after) if one.certificate else "<none>"
            roles = [f"{role} in {where}" if where else role for role, where in one.roles]
            print(f"{one.name:<24}{state:<15}{expires:<24}{', '.join(roles) or '<none>'}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    import asyncio

    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.admin import enforce
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.operators import revoke_operator

    files = HubFiles(Path(options.dir).absolute())
    count, told = revoke_operator(files, options.name, SystemClock())
    if count:
        print(f"operator {options.name} revoked: {count} certificates are refused at the hub from now on")
    else:
        print(
            f"the roles of {options.name} are taken away; which certificates have that name is not known"
            " here, so do not give it to anybody else"
        )
    if told:
        print("nodes learn of it with their next index, which is on its way")
    else:
        print("no running hub was told: nodes learn of it once it runs (or gets SIGHUP)")
    enforcement = asyncio.run(enforce(files, SystemClock()))
    if enforcement is not None and enforcement.problem:
        print(f"warning: {enforcement.problem}", file=sys.stderr)
    return 0


def _acknowledge(options: argparse.Namespace) -> int:
    from edgeagent.api.clock import SystemClock
    from edgeagent.cluster.audit import AuditLogs
    from edgeagent.cluster.layout import HubFiles
    from edgeagent.cluster.lock import notify_hub
    from edgeagent.cluster.settings import load_settings
    from edgeagent.cluster.store import Store

    files = HubFiles(Path(options.dir).absolute())
    load_settings(files.settings)
    store = Store(files.database)
    try:
        count = AuditLogs(store, SystemClock()).acknowledge(options.node)
    finally:
        store.close()
    notify_hub(files.lock)
    print(f"{count} findings about node {options.node} acknowledged")
    return 0
