"""``edgectl apply``: objects from files to the hub, all of them or none."""

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.unsupported import unsupported
from edgeagent.cli.ctl.errors import CommandError, complain
from edgeagent.cli.ctl.files import read_files
from edgeagent.cli.ctl.session import server_error, with_hub
from edgeagent.cli.output import escape, name_of

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient
    from edgeagent.cli.manifests import Manifest


def run(options: argparse.Namespace) -> int:
    """Create or change what the files hold."""
    manifests = read_files(options)
    _warn(manifests)
    if options.dry_run == "client":
        for manifest in manifests:
            print(f"{name_of(manifest.object)} created (dry run)")
        return 0
    return with_hub(options, lambda hub: _apply_to(hub, manifests, dry_run=options.dry_run == "server"))


def _warn(manifests: "Sequence[Manifest]") -> None:
    """Tell, in kubectl's manner, what will keep a pod from being run."""
    for manifest in manifests:
        for problem in unsupported(manifest.object) if isinstance(manifest.object, Pod) else ():
            complain(escape(f"Warning: {manifest.source}: {problem}; the node will not run this pod"))


async def _apply_to(hub: "HubClient", manifests: "list[Manifest]", *, dry_run: bool) -> int:
    import msgspec

    from edgeagent.wire.canonical import canonical_json
    from edgeagent.wire.rpc import RpcError

    try:
        result = await hub.apply([msgspec.Raw(canonical_json(m.object)) for m in manifests], dry_run=dry_run)
    except RpcError as error:
        source = _source_of(str(error), manifests)
        raise CommandError(server_error(error) + (f" (from {escape(source)})" if source else "")) from None
    suffix = " (server dry run)" if dry_run else ""
    for applied in result.applied:
        print(f"{escape(applied.kind.lower())}/{escape(applied.name)} {applied.action}{suffix}")
    return 0


def _source_of(message: str, manifests: "list[Manifest]") -> str:
    """Where the object was written that a message of the hub begins with; empty where it names none."""
    if (numbered := re.match(r"document (\d{1,6})\b", message)) and 0 < int(numbered[1]) <= len(manifests):
        return manifests[int(numbered[1]) - 1].source
    named = re.match(r"(\w+) ([^\s/]+)/(\S+)", message)
    return next((m.source for m in manifests if named and m.key == named.groups()), "")
