"""What serves a stream: the same services are behind the broker and behind the unix socket.

A door (``operatorstreams`` for MQTT, ``edgeagent.node.localapi`` for the socket) calls ``open`` with what
was asked for, answers with the error that it raises, or with success; then has the function that it
returned serve the channels:

    serve = await services["exec"].open(request)   # EdgeAgentError: nothing begins (NotFound, BadRequest, …)
    await run_stream(serve, channels)                # until the end, whichever side brings it

``serve(channels)`` runs until there is nothing more to serve. It returns: what is queued is sent, and the
stream ends well. It raises an EdgeAgentError: the stream ends with its reason and message. It is cancelled
when the other side ends the stream or is lost, when the operator loses the right, or when the agent stops:
it gives back what it holds, at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from edgeagent.api.errors import EdgeAgentError
from edgeagent.wire.channelio import Channels, StreamEndedError

log = logging.getLogger(__name__)

GOODBYE_SECONDS = 1.0
"""How long the ends of streams may take to be sent when the agent stops."""
STOPPING = "the agent stops"

Serve = Callable[[Channels], Awaitable[None]]
"""Serves one stream from its beginning to its end."""


class StreamRequest(msgspec.Struct, frozen=True):
    """What is asked for: ``params`` (JSON, of the method) and what of it is ``private`` (JSON, not in the
    audit log).

    ``operator`` is empty at the unix socket.
    """

    params: msgspec.Raw
    private: bytes = b"{}"
    operator: str = ""


class StreamService(Protocol):
    """Serves the streams of one method."""

    async def open(self, request: StreamRequest) -> Serve:
        """What serves the stream; EdgeAgentError with a StatusReason where it cannot be."""


Services = Mapping[str, StreamService]
"""By the name of the method: ``follow``, ``exec``, ``portforward``."""


async def all_of(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all at the same time; the first that fails ends the others, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one)
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def run_stream(serve: Serve, channels: Channels) -> None:
    """Have ``serve`` serve ``channels`` and end the stream as it ends. Returns once the stream is over."""
    serving = asyncio.ensure_future(_served(serve, channels))
    over = asyncio.ensure_future(channels.ended())
    try:
        await asyncio.wait({serving, over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (serving, over):
            task.cancel()
        await asyncio.wait({serving})
        channels.end("ServiceUnavailable", STOPPING)  # no effect where it has ended


async def end_all(running: Mapping[asyncio.Task[None], Channels]) -> None:
    """End streams, by the tasks that run them, and let the other sides know as far as that is quick."""
    for channels in running.values():
        channels.end("ServiceUnavailable", STOPPING)
    tasks = set(running)
    if tasks:
        await asyncio.wait(tasks, timeout=GOODBYE_SECONDS)
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _served(serve: Serve, channels: Channels) -> None:
    try:
        await serve(channels)
        await channels.finish()
    except StreamEndedError:
        pass  # the other side knows
    except EdgeAgentError as error:
        channels.end(getattr(error, "reason", "") or "InternalError", str(error))
    except Exception as error:
        log.exception("a stream met a bug")
        channels.end("InternalError", f"{type(error).__name__} on the node; see its log")
