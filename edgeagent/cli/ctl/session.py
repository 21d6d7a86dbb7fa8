"""One connection to the hub for one command, and what every command does with its answers."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.decode import KubernetesObject, decode_object_json
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.redaction import redacted
from edgeagent.cli.ctl.errors import CommandError, complain
from edgeagent.cli.ctl.parser import DEFAULT_CONFIG
from edgeagent.cli.ctl.targets import Target, scope_of
from edgeagent.cli.output import escape

if TYPE_CHECKING:
    import msgspec

    from edgeagent.cli.hubclient import HubClient
    from edgeagent.wire.rpc import RpcError

PATIENCE_SECONDS = 2.0
"""After this long a person at a terminal is told what is being waited for."""
REWATCH_SECONDS = 1.0
"""The pause before a watch that ended at once is asked for again."""


def with_hub(
    options: argparse.Namespace,
    work: "Callable[[HubClient], Coroutine[None, None, int]]",
    *,
    lasting: bool = False,
) -> int:
    """Connect, do ``work``, and return its exit code."""
    from edgeagent.cli.ending import run_to_end
    from edgeagent.cli.hubclient import HubClient
    from edgeagent.cli.operatorfile import others_can_read, read_operator_file

    path = Path(options.config or os.environ.get("EDGECTL_CONFIG") or DEFAULT_CONFIG).expanduser()
    operator = read_operator_file(path)
    if others_can_read(path):
        complain(f"warning: other users can read the private key in {path}: chmod 600 {path}")

    async def session() -> int:
        async with contextlib.AsyncExitStack() as stack:
            hub = HubClient(operator, timeout=options.request_timeout or None)
            async with patience(f"connecting to {hub.brokers}"):
                await stack.enter_async_context(hub)
            quiet = lasting or getattr(options, "watch", False) or options.command == "delete"
            async with contextlib.nullcontext() if quiet else patience("waiting for the hub's answer"):
                return await work(hub)

    return run_to_end(session()) if lasting else asyncio.run(session())


def stream_with_hub(
    options: argparse.Namespace, work: "Callable[[HubClient], Coroutine[None, None, int]]"
) -> int:
    """As ``with_hub``, for what goes on until one side ends it: a signal lets it say goodbye."""
    return with_hub(options, work, lasting=True)


class PauseTeller:
    """Tells a person of short disconnections: on standard error, or as a command wants it to be told."""

    def __init__(self) -> None:
        self._paused: Callable[[str], None] = complain
        self._resumed: Callable[[str], None] = complain

    def tell(self, paused: Callable[[str], None], resumed: Callable[[str], None]) -> None:
        """From now on by these."""
        self._paused, self._resumed = paused, resumed

    def paused(self, reason: str) -> None:
        """The node cannot be reached for now."""
        self._paused(f"no connection to the node ({escape(reason)}); trying again")

    def resumed(self) -> None:
        """It can be again."""
        self._resumed("connected again")


@contextlib.asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """Tell a person at a terminal what is being waited for, once it has taken a while."""
    handle = None
    if sys.stderr.isatty():
        handle = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, complain, f"{what} …")
    try:
        yield
    finally:
        if handle is not None:
            handle.cancel()


async def fetch(hub: "HubClient", target: Target, options: argparse.Namespace) -> list[KubernetesObject]:
    """The objects that ``target`` and the options select; raises RpcError."""
    raw = await hub.get(
        target.resource.kind,
        namespace=scope_of(target.resource, options),
        name=target.name,
        labels=getattr(options, "selector", None),
        involved=getattr(options, "about", None) or ("", ""),
    )
    return [item for item in map(decode, raw) if is_wanted(item, options)]


def is_wanted(item: KubernetesObject, options: argparse.Namespace) -> bool:
    """Whether an object is of the types that ``--types`` names; only Events have one."""
    types = getattr(options, "types", None)
    return not types or (isinstance(item, Event) and item.type in types)


def decode(raw: "msgspec.Raw") -> KubernetesObject:
    """An object of the hub's answer, of a Secret never a value; raises CommandError where it is none."""
    try:
        found = decode_object_json(bytes(raw))
    except InvalidObjectError as error:
        raise CommandError(f"error: the hub's answer cannot be read (another version?): {error}") from None
    return redacted(found) if isinstance(found, Secret) else found


def server_error(error: "RpcError", target: Target | None = None) -> str:
    """The hub's refusal, in kubectl's words."""
    message = escape(str(error))
    if target is not None and target.name and error.reason == "NotFound":
        message = f'{target.resource.plural} "{target.name}" not found'
    return f"Error from server ({escape(error.reason)}): {message}"
