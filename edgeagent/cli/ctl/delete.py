"""``edgectl delete``: objects deleted, and waited for until they are gone."""

import argparse
import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from edgeagent.api.errors import TemporaryError
from edgeagent.cli.ctl.errors import UsageError, complain
from edgeagent.cli.ctl.session import REWATCH_SECONDS, decode, fetch, patience, server_error, with_hub
from edgeagent.cli.ctl.targets import Target, parse_targets, scope_of
from edgeagent.cli.output import escape, resource_of

if TYPE_CHECKING:
    from edgeagent.cli.hubclient import HubClient
    from edgeagent.wire.hubapi import WatchEvent


def run(options: argparse.Namespace) -> int:
    """Delete by kind and name, by label, or what the files hold."""
    if bool(options.target) == bool(options.filename):
        raise UsageError("give either a kind and a name, or -f FILE")
    if options.force and options.grace_period:
        raise UsageError("--force and a --grace-period greater than 0 cannot be specified together")
    if options.filename:
        from edgeagent.cli.ctl.files import read_files

        doomed = [
            (Target(resource_of(m.object), m.object.metadata.name), m.object.metadata.namespace)
            for m in read_files(options)
        ]
    else:
        targets = parse_targets(options.target)
        if any(target.name for target in targets) and (options.all or options.selector):
            raise UsageError("a name cannot be given together with --all or a selector")
        if not all(target.name for target in targets) and not (options.all or options.selector):
            raise UsageError("resource(s) were provided, but no name was specified")
        doomed = [(target, scope_of(target.resource, options)) for target in targets]
    return with_hub(options, lambda hub: _delete_all(hub, doomed, options))


async def _delete_all(
    hub: "HubClient", doomed: Sequence[tuple[Target, str]], options: argparse.Namespace
) -> int:
    from edgeagent.wire.rpc import RpcError

    named: list[tuple[Target, str]] = []
    for target, namespace in doomed:
        if target.name:
            named.append((target, namespace))
            continue
        found = await fetch(hub, target, options)
        named += [(Target(target.resource, item.metadata.name), item.metadata.namespace) for item in found]
    if not named:
        complain("No resources found")
        return 0
    if options.force:
        complain(
            "warning: Immediate deletion does not wait for confirmation that the running resource has been "
            "terminated. The resource may continue to run on the node."
        )
    failed = False
    deadline = asyncio.get_running_loop().time() + options.timeout if options.timeout else None
    async with contextlib.AsyncExitStack() as stack:
        waiting = []
        for target, namespace in named:
            try:
                waiting.append(await _delete_one(hub, target, namespace, options, stack))
            except RpcError as error:
                if error.reason == "NotFound" and options.ignore_not_found:
                    continue
                failed = True
                complain(server_error(error, target))
        for wait in waiting:
            if wait is None:
                continue
            target, gone = wait
            try:
                async with (
                    asyncio.timeout_at(deadline),
                    patience(f"waiting for {target.shown} to be gone"),
                ):
                    await gone()
            except TimeoutError:
                failed = True
                complain(
                    f"error: timed out waiting for the condition on {target.resource.plural}/{target.name}"
                )
    return 1 if failed else 0


async def _delete_one(
    hub: "HubClient",
    target: Target,
    namespace: str,
    options: argparse.Namespace,
    stack: contextlib.AsyncExitStack,
) -> tuple[Target, Callable[[], Awaitable[None]]] | None:
    """Delete one object; what to await until it is gone, or None where there is nothing to wait for."""
    kind, name = target.resource.kind, target.name
    events: AsyncIterator[WatchEvent] | None = None
    wants_to_wait = options.wait and not options.force and target.resource.kind == "Pod"
    watching = contextlib.AsyncExitStack()
    try:
        if wants_to_wait:
            # Before the delete, so that its end cannot be missed.
            events = await watching.enter_async_context(hub.watch(kind, namespace=namespace, name=name))
        grace = 0 if options.force and options.grace_period is None else options.grace_period
        result = await hub.delete(kind, namespace, name, grace_period_seconds=grace, force=options.force)
    except BaseException:
        await watching.aclose()
        raise
    print(
        f'{target.resource.singular} "{escape(name)}" {"force deleted" if options.force else "deleted"}',
        flush=True,
    )
    if result.state == "deleted" or not options.wait or options.force:
        await watching.aclose()
        return None
    stack.push_async_callback(watching.aclose)
    return target, functools.partial(_gone, hub, target, namespace, result.uid, events)


async def _gone(
    hub: "HubClient", target: Target, namespace: str, uid: str, events: "AsyncIterator[WatchEvent] | None"
) -> None:
    """Return once the object of this uid is gone, or another has taken its name."""
    from edgeagent.wire.rpc import RpcError

    kind, name = target.resource.kind, target.name
    if events is not None:
        with contextlib.suppress(TemporaryError):
            if await _saw_end(events, uid):
                return
    while True:
        await hub.connected()
        with contextlib.suppress(TemporaryError):
            async with hub.watch(kind, namespace=namespace, name=name) as again:
                try:
                    present = [decode(raw) for raw in await hub.get(kind, namespace=namespace, name=name)]
                except RpcError as error:
                    if error.reason == "NotFound":
                        return
                    raise
                if all(item.metadata.uid != uid for item in present) or await _saw_end(again, uid):
                    return
        await asyncio.sleep(REWATCH_SECONDS)


async def _saw_end(events: "AsyncIterator[WatchEvent]", uid: str) -> bool:
    async for event in events:
        same = decode(event.object).metadata.uid == uid
        if same == (event.type == "DELETED"):
            return True
    return False
