"""What the node can be asked about its network: the answers behind the local socket and the hub's calls."""

from typing import Protocol

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import Rows
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.rpc import NetworkParams, NetworkResult

ANSWER_LIMIT = 4_000_000


class Plugin(Protocol):
    """The network plugin, as far as it is asked."""

    async def show(self, what: Rows) -> list[dict[str, str]]:
        """What is in force, with its counters."""

    async def trace(self, source: str, target: str, port: int, protocol: Transport) -> list[str]:
        """The way of a new connection, a step a line."""


class NetworkReads:
    """Asks ``plugin``; None where no plugin makes a network."""

    def __init__(self, plugin: Plugin | None) -> None:
        self._plugin = plugin

    async def call(self, params: msgspec.Raw, limit: int) -> NetworkResult:
        """The remote call ``network``. The reply around it leaves three quarters of ``limit``."""
        return await self.ask(decode_json(bytes(params), NetworkParams), limit=limit * 3 // 4)

    async def ask(self, wanted: NetworkParams, *, limit: int = ANSWER_LIMIT) -> NetworkResult:
        """Rows or lines, no more than ``limit`` bytes of them.

        PermanentError with reason ``NotFound`` where the node has no network of its own to ask, and what
        the plugin raises.
        """
        if self._plugin is None:
            raise PermanentError(
                "no plugin makes this node's network: see `edgeagent plugins list`", reason="NotFound"
            )
        if wanted.what == "trace":
            lines = await self._plugin.trace(wanted.source, wanted.target, wanted.port, wanted.protocol)
            return NetworkResult(lines=lines)
        rows = await self._plugin.show(wanted.what)
        columns = list(rows[0]) if rows else []
        kept: list[dict[str, str]] = []
        for row in rows:
            limit -= len(canonical_json(row)) + 1
            if limit < 0:
                return NetworkResult(columns=columns, rows=kept, truncated=True)
            kept.append(row)
        return NetworkResult(columns=columns, rows=kept)
