"""Opening a socket: name, TCP, TLS. On the event loop, so that it can be given up at any moment."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from typing import TypeVar

from edgeagent.wire.tls import ClocklessContext

T = TypeVar("T")


async def open_socket(host: str, port: int, tls: ssl.SSLContext | None, seconds: float) -> socket.socket:
    """A connected, non-blocking socket, with TLS if asked for.

    OSError or ValueError where there is none to be had. No address of the host gets so much of ``seconds``
    that the next would have none left. The whole is the caller's to limit.
    """
    found = await _addresses(host, port)
    failure: OSError = OSError("the name has no address")
    for family, kind, protocol, _, where in found:
        try:
            async with asyncio.timeout(seconds / (len(found) + 1)):
                sock = await _tcp(socket.socket(family, kind, protocol), where)
        except OSError as error:
            failure = error
            continue
        return sock if tls is None else await _secure(sock, tls, host)
    raise failure


async def _tcp(sock: socket.socket, where: object) -> socket.socket:
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)  # type: ignore[arg-type]
        # Small packets one after another must not wait for each other's TCP acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


async def _secure(sock: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    loop = asyncio.get_running_loop()
    try:
        secured = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        while True:
            ready = loop.create_future()
            try:
                secured.do_handshake()
                if isinstance(tls, ClocklessContext):
                    tls.check(secured)
                return secured
            except ssl.SSLWantReadError:
                loop.add_reader(secured, _settle, ready, None)
            except ssl.SSLWantWriteError:
                loop.add_writer(secured, _settle, ready, None)
            try:
                await ready
            finally:
                loop.remove_reader(secured)
                loop.remove_writer(secured)
    except BaseException:
        secured.close()
        raise


_AddressInfo = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, object]]


async def _addresses(host: str, port: int) -> _AddressInfo:
    """``getaddrinfo``. Where it has to ask somebody it may hang, so its thread is one nobody waits for."""
    with contextlib.suppress(socket.gaierror):
        return _resolve_host(host, port, socket.AI_NUMERICHOST)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_AddressInfo | Exception] = loop.create_future()

    def ask() -> None:
        try:
            found: _AddressInfo | Exception = _resolve_host(host, port, 0)
        except Exception as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_settle, answer, found)

    threading.Thread(target=ask, name="edgeagent-resolver", daemon=True).start()
    found = await answer
    if isinstance(found, Exception):
        raise found
    return found


def _resolve_host(host: str, port: int, flags: int) -> _AddressInfo:
    return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICSERV)]


def _settle(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def failure_reason(error: Exception) -> str:
    """Why a connection could not be made, in words for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: {error.reason}: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, OSError) and (error.errno or 0) > 0 and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno or 0)  # asyncio puts a sentence of its own in its place
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or ("timed out" if isinstance(error, TimeoutError) else type(error).__name__)
