"""BrokerSink: logs by way of the cluster's own broker, for whoever listens there."""

from collections.abc import Awaitable, Callable

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.logs import LogBatch
from edgeagent.node.telemetry.logchunks import part

Encode = Callable[[str, int, LogBatch, int], list[bytes]]
"""Stream, number of the first record, batch and the most bytes of a message; the messages."""


class BrokerSink:
    """Publishes in order. ``limit`` is the most bytes that a message may have now, 0 while not connected."""

    plugin = "agent"

    def __init__(
        self, publish: Callable[[bytes], Awaitable[None]], *, encode: Encode, limit: Callable[[], int]
    ) -> None:
        self._publish = publish
        self._encode = encode
        self._limit = limit

    async def names(self) -> list[str]:
        """The one sink."""
        return ["broker"]

    async def ship(self, sink: str, stream: str, first: int, batch: LogBatch) -> Delivery:
        """Publish a batch; a record that is too large for the broker is rejected."""
        del sink
        if not (limit := self._limit()):
            raise TemporaryError("not connected to the broker", reason="Disconnected")
        rejected: dict[int, str] = {}
        try:
            messages = self._encode(stream, first, batch, limit)
        except PermanentError:
            messages = []
            for place in range(len(batch.records)):
                try:
                    messages += self._encode(stream, first + place, part(batch, place, place + 1), limit)
                except PermanentError as error:
                    rejected[place] = str(error)
        for message in messages:
            await self._publish(message)
        return Delivery(rejected=rejected)
