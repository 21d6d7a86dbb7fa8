"""Talking from within network namespaces, with no process in any of them.

A socket belongs to the namespace that its thread was in when it was made. So a thread enters a namespace,
makes the sockets, and ends; the sockets are then used from anywhere. A thousand probes take a thousand
sockets and no process.
"""

import contextlib
import ctypes
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, TypeVar

T = TypeVar("T")
Transport = Literal["TCP", "UDP", "SCTP"]
Kind = Literal["answer", "refused", "timeout"]

_CLONE_NEWNET = 0x40000000
_IPPROTO_SCTP = 132
_MOST_AT_ONCE = 400
_UNANSWERED_AGAIN = 0.2
"""A datagram is sent again after so many seconds; TCP does so by itself, after one."""


def in_namespace_thread(namespace: str, call: Callable[[], T]) -> T:
    """What ``call`` gives when it runs in the namespace of this name; an error of it is raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(fd, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), namespace)
            finally:
                os.close(fd)
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def has_sctp() -> bool:
    """Whether this machine's kernel has SCTP."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, _IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def socket_of(family: socket.AddressFamily, protocol: Transport) -> socket.socket:
    """A socket that does not block, in the namespace of the calling thread."""
    kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
    made = socket.socket(family, kind, _IPPROTO_SCTP if protocol == "SCTP" else 0)
    made.setblocking(False)
    return made


def family_of(address: str) -> socket.AddressFamily:
    """The family of an address."""
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET


@dataclass(frozen=True)
class Probe:
    """A new connection from a namespace. ``source`` and ``source_port`` where they matter."""

    namespace: str
    address: str
    port: int
    protocol: Transport = "TCP"
    source: str = ""
    source_port: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a probe: who answered, and whom it saw asking; ``refused`` also by an ICMP error."""

    kind: Kind
    server: str = ""
    seen: str = ""

    def __bool__(self) -> bool:
        """Whether there was an answer."""
        return self.kind == "answer"


class _Attempt:
    """One probe on its way."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.outcome: Outcome | None = None
        self._data = b""
        self.socket = socket_of(family_of(probe.address), probe.protocol)

    def begin(self) -> None:
        if self.probe.source or self.probe.source_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            anyone = "::" if self.socket.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104
            self.socket.bind((self.probe.source or anyone, self.probe.source_port))
        try:
            self.socket.connect((self.probe.address, self.probe.port))
        except BlockingIOError:
            pass
        except OSError:
            self.outcome = Outcome("refused")
        self.again()

    def again(self) -> None:
        if self.probe.protocol == "UDP" and self.outcome is None:
            try:
                self.socket.send(b"?")
            except OSError:
                self.outcome = Outcome("refused")

    def readable(self) -> None:
        try:
            more = self.socket.recv(4096)
        except BlockingIOError:
            return
        except TimeoutError:
            self.outcome = Outcome("timeout")
            return
        except OSError:
            self.outcome = Outcome("refused")
            return
        self._data += more
        if b"\n" in self._data:
            server, seen = self._data.split(b"\n")[0].decode().split()
            self.outcome = Outcome("answer", server, seen)
        elif not more:
            self.outcome = Outcome("refused")


def probe_all(probes: Sequence[Probe], timeout: float = 1.0) -> list[Outcome]:
    """Make all these connections, many at once, and give what came of each in the same order."""
    outcomes: list[Outcome] = []
    for first in range(0, len(probes), _MOST_AT_ONCE):
        outcomes += _probe_some(probes[first : first + _MOST_AT_ONCE], timeout)
    return outcomes


def _probe_some(probes: Sequence[Probe], timeout: float) -> list[Outcome]:
    attempts: list[_Attempt | None] = [None] * len(probes)

    def make(numbers: list[int]) -> None:
        for number in numbers:
            attempts[number] = _Attempt(probes[number])

    by_namespace: dict[str, list[int]] = {}
    for number, probe in enumerate(probes):
        by_namespace.setdefault(probe.namespace, []).append(number)
    for namespace, numbers in by_namespace.items():
        in_namespace_thread(namespace, lambda numbers=numbers: make(numbers))  # type: ignore[misc]
    made = [attempt for attempt in attempts if attempt is not None]
    try:
        with selectors.DefaultSelector() as selector:
            waiting = 0
            for attempt in made:
                attempt.begin()
                if attempt.outcome is None:
                    selector.register(attempt.socket, selectors.EVENT_READ, attempt)
                    waiting += 1
            deadline = time.monotonic() + timeout
            again = time.monotonic() + _UNANSWERED_AGAIN
            while waiting and (now := time.monotonic()) < deadline:
                for key, _ in selector.select(min(deadline, again) - now if again > now else 0):
                    found: _Attempt = key.data
                    found.readable()
                    if found.outcome is not None:
                        selector.unregister(found.socket)
                        waiting -= 1
                if time.monotonic() >= again:
                    again += _UNANSWERED_AGAIN
                    for key in list(selector.get_map().values()):
                        key.data.again()
                        if key.data.outcome is not None:
                            selector.unregister(key.fileobj)
                            waiting -= 1
        return [Outcome("timeout") if attempt.outcome is None else attempt.outcome for attempt in made]
    finally:
        for attempt in made:
            attempt.socket.close()


class Servers:
    """One thread that serves many sockets in many namespaces.

    A server says ``NAME CLIENT-ADDRESS`` and a line's end to whoever connects, then echoes what it is sent
    for as long as the connection is; to a datagram it answers that line followed by the datagram.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._lock = threading.Lock()
        self._listening: dict[tuple[str, int, str], list[socket.socket]] = {}
        self._closing: list[socket.socket] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def serve(self, namespace: str, port: int, protocol: Transport = "TCP", name: str = "") -> None:
        """Serve a port on all addresses of both families; ``name`` is the namespace's if not given."""

        def make() -> list[socket.socket]:
            found = []
            for family in (socket.AF_INET, socket.AF_INET6):
                listener = socket_of(family, protocol)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(("", port))
                if protocol != "UDP":
                    listener.listen(512)
                found.append(listener)
            return found

        made = in_namespace_thread(namespace, make)
        self._listening[namespace, port, protocol] = made
        for listener in made:
            self._selector.register(listener, selectors.EVENT_READ, (name or namespace, protocol))
        self._wake.send(b"x")

    def stop(self, namespace: str, port: int, protocol: Transport = "TCP") -> None:
        """Serve that port no more. Connections that are there stay."""
        with self._lock:
            self._closing += self._listening.pop((namespace, port, protocol))
        self._wake.send(b"x")
        while self._closing and self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join(0.001)

    def close(self) -> None:
        """End the thread, and every connection."""
        self._ended = True
        self._wake.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            held = key.fileobj
            assert isinstance(held, socket.socket)
            held.close()
        self._selector.close()
        self._wake.close()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select():
                held = key.fileobj
                assert isinstance(held, socket.socket)
                if key.data is None:
                    held.recv(4096)
                elif isinstance(key.data, tuple):
                    self._receive(held, *key.data)
                else:
                    self._echo(held)
            with self._lock:
                for listener in self._closing:
                    self._selector.unregister(listener)
                    listener.close()
                self._closing.clear()

    def _receive(self, listener: socket.socket, name: str, protocol: Transport) -> None:
        if protocol == "UDP":
            with contextlib.suppress(OSError):  # an ICMP error of an answer before: nobody waits for it
                data, client = listener.recvfrom(65536)
                listener.sendto(f"{name} {client[0]}\n".encode() + data, client)
            return
        try:
            connection, client = listener.accept()
        except OSError:  # the client went away before
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, "connection")
        self._try_send(connection, f"{name} {client[0]}\n".encode())

    def _echo(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._try_send(connection, data)
        else:
            self._selector.unregister(connection)
            connection.close()

    def _try_send(self, connection: socket.socket, data: bytes) -> None:
        try:
            connection.send(data)
        except OSError:
            self._selector.unregister(connection)
            connection.close()
