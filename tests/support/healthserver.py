"""A gRPC server with the health service and nothing else, on h2.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import ClassVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded


class HealthServer(asyncio.Protocol):
    """``grpc.health.v1.Health/Check`` for ``services``, numbers of ``ServingStatus``; NotFound for any other.

    An instance is one connection; a server of services of its own is a subclass.
    """

    services: ClassVar[Mapping[str, int]] = {"": 1, "sick": 2, "never-heard-of": 3, "strange": 0, "späth": 1}

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self._body = b""
        self._http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._http2.initiate_connection()
        transport.write(self._http2.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Something was sent."""
        for event in self._http2.receive_data(data):
            match event:
                case RequestReceived(headers=headers):
                    self.headers = {str(name): str(value) for name, value in headers}
                case DataReceived(data=body):
                    self._body += body
                case StreamEnded(stream_id=stream):
                    self.answer(self._http2, stream, self._body)
        self._transport.write(self._http2.data_to_send())

    def answer(self, http2: H2Connection, stream: int, body: bytes) -> None:
        """Say how the service is that the request names."""
        assert body[0] == 0
        assert int.from_bytes(body[1:5], "big") == len(body) - 5
        assert not body[5:] or (body[5] == 0x0A and body[6] == len(body) - 7)
        service = body[7:].decode()
        http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        if service in self.services:
            message = bytes([8, self.services[service]]) if self.services[service] else b""
            http2.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
            http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        else:
            trailers = [("grpc-status", "5"), ("grpc-message", "unknown%20service")]
            http2.send_headers(stream, trailers, end_stream=True)


@contextmanager
def health_server() -> Iterator[tuple[int, dict[str, int]]]:
    """A server on all addresses of this machine, in a thread: its port, and its services, to be changed."""
    services: dict[str, int] = {}
    server = type("Server", (HealthServer,), {"services": services})
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    async def end(listener: asyncio.Server) -> None:
        listener.close()
        await listener.wait_closed()

    try:
        making = loop.create_server(server, "0.0.0.0", 0)  # noqa: S104 - a pod's address is one of them
        listener = asyncio.run_coroutine_threadsafe(making, loop).result(10)
        yield listener.sockets[0].getsockname()[1], services
        asyncio.run_coroutine_threadsafe(end(listener), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
