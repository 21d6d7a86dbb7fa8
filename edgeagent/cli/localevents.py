"""What happens on this node, from the agent's unix socket (``edgeagent.wire.localevents``)."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.event import Event
from edgeagent.cli.localstreams import open_local_stream
from edgeagent.wire.channelio import Channel
from edgeagent.wire.localevents import EVENTS, EventsParams

MAX_EVENT_BYTES = 65_536


@asynccontextmanager
async def watched(socket: Path, namespace: str) -> AsyncIterator[AsyncIterator[Event]]:
    """Those that the agent at ``socket`` remembers, and then each as it happens.

    LocalError where the agent cannot be asked, StreamEndedError once it does not go on.
    """
    async with open_local_stream(socket, EVENTS, EventsParams(namespace=namespace)) as channels:
        channel = await channels.accept()
        channel.accept()
        async with aclosing(_events(channel)) as events:
            yield events


async def _events(channel: Channel) -> AsyncGenerator[Event]:
    text = b""
    while data := await channel.read():
        *lines, text = (text + data).split(b"\n")
        if len(text) > MAX_EVENT_BYTES:
            raise PermanentError(
                "the agent's answer cannot be read (another version?): a line without an end"
            )
        for line in lines:
            yield decode_json(line, Event)
