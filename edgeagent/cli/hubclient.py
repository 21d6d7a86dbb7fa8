"""The calls that an operator makes of the hub, each by its name."""

import contextlib
from collections.abc import AsyncIterator

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.pod import Pod
from edgeagent.cli.hubconnection import HubConnection
from edgeagent.wire.audit import AuditResult
from edgeagent.wire.hubapi import (
    ApplyParams,
    ApplyResult,
    AuditParams,
    DeleteParams,
    DeleteResult,
    GetParams,
    GetResult,
    WatchEvent,
    WatchParams,
)
from edgeagent.wire.rpc import (
    LogsParams,
    LogsResult,
    NetworkParams,
    NetworkResult,
    RebootParams,
    RebootResult,
)
from edgeagent.wire.top import TopParams, TopPodsParams, TopResult

WATCH_SECONDS = 60
"""How long one watch lasts. A hub that is restarted forgets it: asking again is what finds out."""


class HubClient(HubConnection):
    """The hub, for an operator: ``async with HubClient(operator) as hub: await hub.get(…)``."""

    async def apply(self, objects: list[msgspec.Raw], *, dry_run: bool = False) -> ApplyResult:
        """Create or change objects, all of them or none."""
        return await self.call("apply", ApplyParams(objects=objects, dry_run=dry_run), ApplyResult)

    async def get(
        self,
        kind: str,
        *,
        namespace: str = "",
        name: str = "",
        labels: dict[str, str] | None = None,
        involved: tuple[str, str] = ("", ""),
    ) -> list[msgspec.Raw]:
        """Objects as JSON; ``namespace`` and ``name`` empty for all. The hub may answer in several parts.

        ``involved``: of Events, those about the object of this kind and name.
        """
        params = GetParams(
            kind=kind,
            namespace=namespace,
            name=name,
            labels=labels or {},
            involved_kind=involved[0],
            involved_name=involved[1],
        )
        found: list[msgspec.Raw] = []
        async with self.open("get", params, GetResult) as parts:
            async for part in parts:
                found += part.items
        return found

    def watch(
        self,
        kind: str,
        *,
        namespace: str = "",
        name: str = "",
        labels: dict[str, str] | None = None,
        involved: tuple[str, str] = ("", ""),
        seconds: int = WATCH_SECONDS,
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """What exists as ADDED, then changes, for ``seconds``; then it is to be asked for again.

        The hub has the watch before any call that is made inside of the context.
        """
        params = WatchParams(
            kind=kind,
            namespace=namespace,
            name=name,
            labels=labels or {},
            involved_kind=involved[0],
            involved_name=involved[1],
            timeout_seconds=seconds,
        )
        return self.open("watch", params, WatchEvent, lasts=seconds)

    async def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        grace_period_seconds: int | None = None,
        force: bool = False,
    ) -> DeleteResult:
        """Delete one object."""
        params = DeleteParams(
            kind=kind, namespace=namespace, name=name, grace_period_seconds=grace_period_seconds, force=force
        )
        return await self.call("delete", params, DeleteResult)

    async def pod(self, namespace: str, name: str) -> Pod:
        """One pod; RpcError with reason ``NotFound`` where there is none of that name."""
        found = await self.get("Pod", namespace=namespace, name=name)
        if len(found) != 1:
            raise PermanentError(f"the hub's answer names {len(found)} pods, not the one asked for")
        return self.decode("get", found[0], Pod)

    async def logs(self, params: LogsParams) -> LogsResult:
        """A container's log, from the node that the pod is on."""
        node = (await self.pod(params.namespace, params.pod)).spec.node_name
        parts: list[bytes] = []
        truncated = False
        async with self.open("logs", params, LogsResult, target=node) as answers:
            async for answer in answers:
                parts.append(answer.text)
                truncated = truncated or answer.truncated
        return LogsResult(text=b"".join(parts), truncated=truncated)

    async def network(self, node: str, params: NetworkParams) -> NetworkResult:
        """What a node says of its network."""
        return await self.call("network", params, NetworkResult, target=node)

    async def reboot(self, node: str) -> RebootResult:
        """Restart a node's machine."""
        return await self.call("reboot", RebootParams(), RebootResult, target=node)

    async def audit(self, node: str, count: int) -> AuditResult:
        """The last rows of a node's audit log as the hub has it; of the hub's own where ``node`` is empty."""
        return await self.call("audit", AuditParams(node=node, count=count), AuditResult)

    async def top(self, node: str) -> TopResult:
        """What a node and its pods use, as the node measures it now, which takes up to a second."""
        return await self.call("top", TopParams(), TopResult, target=node)

    async def top_pods(self, node: str, namespace: str = "", pod: str = "") -> TopResult:
        """What the pods of a namespace on a node use, or one of them; empty stands for every one."""
        return await self.call("toppods", TopPodsParams(namespace=namespace, pod=pod), TopResult, target=node)
