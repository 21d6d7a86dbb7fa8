"""What the node can be asked about itself, in Kubernetes shapes: the answers behind every door.

The local socket and the hub's requests both end here, so that a technician and an operator see the same.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import Node, NodeStatus
from edgeagent.api.objects.pod import Pod
from edgeagent.node.networkreads import NetworkReads, Plugin
from edgeagent.node.pods.logruns import begin_of, log_runs
from edgeagent.node.pods.logs import read_log
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.store.audit import AuditLog
from edgeagent.node.usagereads import UsageReads
from edgeagent.wire.audit import AuditResult
from edgeagent.wire.rpc import LogsParams, LogsResult

if TYPE_CHECKING:
    from edgeagent.node.operations import Method

LOG_LIMIT = 1_000_000


class NodeReads:
    """Reads pods, the node, events, logs, the audit log, the network (``network``) and ``usage``.

    ``pods`` is None where no runtime plugin could be loaded, ``network`` where no network plugin is.
    """

    def __init__(
        self,
        *,
        name: str,
        pods: PodManager | None,
        status: Callable[[], NodeStatus],
        usage: UsageReads,
        events: Callable[[], list[Event]] = list,
        network: Plugin | None = None,
        audit: Callable[[], AuditLog | None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.network = NetworkReads(network)
        self.usage = usage
        self._name = name
        self._pods = pods
        self._status = status
        self._events = events
        self._audit = audit
        self._now = now

    @property
    def methods(self) -> "Mapping[str, Method]":
        """The remote calls."""
        return {
            "logs": self.logs_call,
            "network": self.network.call,
            "top": self.usage.top_call,
            "toppods": self.usage.top_pods_call,
        }

    def node(self) -> Node:
        """The node itself, as an object."""
        return Node(api_version="v1", metadata=ObjectMeta(name=self._name), status=self._status())

    def pods(self) -> list[Pod]:
        """All desired pods with their statuses, sorted by namespace and name."""
        if self._pods is None:
            return []
        return [self._pods.with_status(pod, status) for pod, status in self._pods.statuses()]

    def events(self, namespace: str = "", name: str = "") -> list[Event]:
        """The last events, oldest first; an empty namespace or name stands for every one."""
        return [
            event
            for event in self._events()
            if namespace in ("", event.metadata.namespace) and name in ("", event.metadata.name)
        ]

    def audit(self, count: int) -> AuditResult:
        """The last ``count`` rows of the audit log, and whether all of it holds together.

        PermanentError with reason ``NotFound`` on a node that is not enrolled.
        """
        if (log := self._audit()) is None:
            raise PermanentError(
                "there is no audit log: this node is not enrolled, so that no operator can ask it anything",
                reason="NotFound",
            )
        fault = log.check()
        return AuditResult(rows=log.newest(count), head=log.head, findings=[fault] if fault else [])

    async def logs_call(self, params: msgspec.Raw, limit: int) -> LogsResult:
        """The remote call ``logs``. Base64 and the reply around it leave two thirds of ``limit``."""
        return await self.logs(decode_json(bytes(params), LogsParams), limit=limit * 2 // 3)

    async def logs(self, wanted: LogsParams, *, limit: int = LOG_LIMIT) -> LogsResult:
        """A container's log, or those of all containers one after the other; raises LogError."""
        runs = log_runs(self._pods, wanted)
        since = begin_of(wanted, self._now())
        room = min(limit, LOG_LIMIT)
        parts: list[bytes] = []
        truncated = False
        for run in runs:
            part = await asyncio.to_thread(
                read_log,
                run.path,
                tail_lines=wanted.tail_lines,
                timestamps=wanted.timestamps,
                limit=room // len(runs),
                since=since,
            )
            parts.append(part.text)
            truncated = truncated or part.truncated
        return LogsResult(text=b"".join(parts), truncated=truncated)
