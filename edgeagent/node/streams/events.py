"""The stream ``events``: what happens on this node, told at its socket (``edgeagent.wire.localevents``)."""

from contextlib import aclosing

from edgeagent.api.objects.decode import decode_json
from edgeagent.node.events import EventRecorder
from edgeagent.node.streams.service import Serve, StreamRequest
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channels
from edgeagent.wire.localevents import EVENTS, EventsParams


class EventsService:
    """Tells what ``recorder`` is told. Who reads slowly hears of a repeat once, with the count of all."""

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder

    async def open(self, request: StreamRequest) -> Serve:
        """What serves one stream."""
        wanted = decode_json(bytes(request.params), EventsParams)

        async def serve(channels: Channels) -> None:
            channel = await channels.open(EVENTS)
            async with aclosing(self._recorder.follow()) as news:
                async for event in news:
                    if wanted.namespace in ("", event.metadata.namespace):
                        await channel.write(canonical_json(event) + b"\n")

        return serve
