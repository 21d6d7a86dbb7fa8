"""A connection that lives for one question and its answer."""

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: closing resets the connection, and none is left in TIME_WAIT."""


class Conversation(asyncio.Protocol):
    """What is said on one connection, until ``done``; ``error`` is what it failed by.

    Subclasses speak in ``opened``, ``received`` and ``ended``, and call ``finish``; ValueError out of the
    latter two is an answer that cannot be understood.
    """

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.transport: asyncio.Transport | None = None

    def opened(self, transport: asyncio.Transport) -> None:
        """The connection stands."""
        self.finish()

    def received(self, data: bytes) -> None:
        """The next bytes."""

    def ended(self) -> None:
        """The other side sends nothing any more."""
        self.finish(ConnectionError("EOF"))

    def finish(self, error: Exception | None = None) -> None:
        """End the conversation; only the first end counts."""
        if not self.done.done():
            self.error = error
            self.done.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From the event loop, as the next three."""
        assert isinstance(transport, asyncio.Transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport = transport
        self.opened(transport)

    def data_received(self, data: bytes) -> None:
        """Passed on until the conversation is done."""
        if self.done.done():
            return
        try:
            self.received(data)
        except ValueError as error:
            self.finish(error)

    def eof_received(self) -> None:
        """Passed on likewise."""
        if self.done.done():
            return
        try:
            self.ended()
        except ValueError as error:
            self.finish(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of whatever was still expected."""
        self.finish(exc or ConnectionError("EOF"))


async def converse(
    conversation: Conversation, host: str, port: int, tls: "ssl.SSLContext | None" = None
) -> None:
    """Connect from a fresh port, talk until ``conversation`` is done, and close at once, come what may.

    Raises OSError and ValueError, whose text says what was tried. A ``host`` that is no address is looked
    up in a thread: the one case that needs one.
    """
    if not host:  # which the system would take for the node's own loopback address
        raise ValueError("the pod has no IP")
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_connection(
            lambda: conversation, host, port, ssl=tls, server_hostname=host if tls else None
        )
    except OSError as error:
        # ssl.SSLError is told by its field, for ssl is imported by those alone who use it.
        tried = "tls" if hasattr(error, "reason") else f"dial tcp {address(host, port)}: connect"
        raise ConnectionError(f"{tried}: {reason(error)}") from error
    try:
        await conversation.done
    finally:
        transport.abort()
    if conversation.error is not None:
        raise conversation.error


def address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason(error: Exception) -> str:
    """An error of a connection in the system's words: ``connection refused``."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or hasattr(error, "reason") or not number:
        return str(getattr(error, "strerror", None) or error)
    return os.strerror(number).lower()
