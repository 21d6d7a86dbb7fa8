"""``edgectl get --watch``: every state of the objects once, until interrupted."""

import argparse
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.event import Event
from edgeagent.cli.ctl.errors import CommandError, complain
from edgeagent.cli.ctl.session import REWATCH_SECONDS, decode, fetch, is_wanted, server_error
from edgeagent.cli.ctl.targets import Target, scope_of
from edgeagent.cli.output import escape, sort_for_table
from edgeagent.cli.watchprinter import Printer

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient


async def watch_objects(hub: "HubClient", target: Target, options: argparse.Namespace) -> int:
    """Print the objects, then every change, until interrupted; a lost connection is taken up again."""
    from edgeagent.wire.rpc import RpcError

    printer = _WatchPrinter(target, options)
    first, troubled = True, False
    while True:
        began = SystemClock().monotonic()
        try:
            # The watch first, then the list: nothing can happen unseen between the two.
            async with hub.watch(
                target.resource.kind,
                namespace=scope_of(target.resource, options),
                name=target.name,
                labels=options.selector,
                involved=options.about or ("", ""),
            ) as events:
                try:
                    printer.listed(await fetch(hub, target, options))
                except RpcError as error:
                    if first or error.reason != "NotFound":
                        raise CommandError(server_error(error, target)) from None
                    printer.listed([])
                if troubled:
                    complain("watching again")
                first = troubled = False
                async for event in events:
                    if is_wanted(item := decode(event.object), options):
                        printer.event(event.type, item)
        except RpcError as error:
            raise CommandError(server_error(error, target)) from None
        except TemporaryError as error:
            if first:
                raise
            if not troubled and error.reason != "Gap":
                troubled = True
                complain(f"{escape(str(error))}; trying again")
            await hub.connected()
        await asyncio.sleep(max(0.0, REWATCH_SECONDS - (SystemClock().monotonic() - began)))


class _WatchPrinter:
    """Prints objects when they are new or changed, and once more when they go."""

    def __init__(self, target: Target, options: argparse.Namespace) -> None:
        self._known: dict[str, KubernetesObject] = {}
        self._printer = Printer(
            target.resource,
            options.output,
            headers=not options.no_headers,
            with_namespace=options.all_namespaces,
            counted=options.command == "events",
        )

    def listed(self, items: Sequence[KubernetesObject]) -> None:
        """All that exists now: prints what differs from what was known."""
        present = {_identity(item) for item in items}
        gone = [self._known.pop(key) for key in list(self._known) if key not in present]
        fresh = [item for item in items if not self._is_known(item)]
        self._known |= {_identity(item): item for item in items}
        self._printer.show([*(item for item in gone if not isinstance(item, Event)), *sort_for_table(fresh)])

    def event(self, kind: str, item: KubernetesObject) -> None:
        """One change."""
        if kind == "DELETED":
            known = self._known.pop(_identity(item), None)
            if known is not None and not isinstance(item, Event):  # that is but old
                self._printer.show([item])
        elif not self._is_known(item):
            self._known[_identity(item)] = item
            self._printer.show([item])

    def _is_known(self, item: KubernetesObject) -> bool:
        """Whether this state of the object, or a later one, was printed.

        A status changes without the version, so that only an older version is surely the past.
        """
        known = self._known.get(_identity(item))
        if known is None or known == item:
            return known is not None
        versions = item.metadata.resource_version, known.metadata.resource_version
        return all(version.isdecimal() for version in versions) and int(versions[0]) < int(versions[1])


def _identity(item: KubernetesObject) -> str:
    meta = item.metadata
    return meta.uid or f"{meta.namespace}/{meta.name}"
