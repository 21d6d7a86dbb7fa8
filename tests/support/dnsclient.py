"""A small DNS client and an upstream server, in network namespaces. RFC 1035, as much as tests need."""

import ipaddress
import os
import selectors
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Literal

from tests.support.netprobe import family_of, in_namespace_thread, socket_of

Kind = Literal["A", "AAAA", "SRV", "CNAME", "TXT", "SOA", "NS", "PTR"]
NUMBERS: dict[Kind, int] = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
}
_KINDS = {number: kind for kind, number in NUMBERS.items()}
CODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


@dataclass(frozen=True)
class Reply:
    """An answer. ``records`` are ``KIND DATA``, sorted; names end in a dot. ``ttls`` those of the records."""

    code: str
    records: list[str] = field(default_factory=list)
    ttls: list[int] = field(default_factory=list)


def ask(
    namespace: str, server: str, name: str, kind: Kind = "A", *, tcp: bool = False, timeout: float = 4.0
) -> Reply:
    """Ask once. TimeoutError or OSError where nobody answers."""
    query = os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + _encoded(name)
    query += struct.pack("!HH", NUMBERS[kind], 1)
    family = family_of(server)
    with in_namespace_thread(namespace, lambda: socket_of(family, "TCP" if tcp else "UDP")) as client:
        client.settimeout(timeout)
        client.connect((server, 53))
        if not tcp:
            client.send(query)
            data = client.recv(65535)
        else:
            client.sendall(struct.pack("!H", len(query)) + query)
            data = b""
            while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
                more = client.recv(65535)
                assert more, "the connection ended within the answer"
                data += more
            data = data[2:]
    assert data[:2] == query[:2]
    return _decoded(data)


def _encoded(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _decoded(data: bytes) -> Reply:
    flags, questions, answers = struct.unpack("!HHH", data[2:8])
    at = 12
    for _ in range(questions):
        at = _name(data, at)[1] + 4
    found: list[tuple[str, int]] = []
    for _ in range(answers):
        at = _name(data, at)[1]
        number, _, ttl, length = struct.unpack("!HHIH", data[at : at + 10])
        at += 10
        kind = _KINDS[number]
        found.append((f"{kind} {_content(kind, data, at, length)}", ttl))
        at += length
    found.sort()
    code = flags & 15
    return Reply(CODES.get(code, str(code)), [text for text, _ in found], [ttl for _, ttl in found])


def _content(kind: Kind, data: bytes, at: int, length: int) -> str:
    match kind:
        case "A" | "AAAA":
            return str(ipaddress.ip_address(data[at : at + length]))
        case "SRV":
            priority, weight, port = struct.unpack("!HHH", data[at : at + 6])
            return f"{priority} {weight} {port} {_name(data, at + 6)[0]}"
        case "TXT":
            return data[at + 1 : at + length].decode()
        case _:
            return _name(data, at)[0]


def _name(data: bytes, at: int) -> tuple[str, int]:
    """A name, and where what follows it begins."""
    labels: list[str] = []
    while length := data[at]:
        if length >= 0xC0:
            rest, _ = _name(data, struct.unpack("!H", data[at : at + 2])[0] & 0x3FFF)
            return "".join(f"{label}." for label in labels) + rest, at + 2
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return "".join(f"{label}." for label in labels) or ".", at + 1


class Upstream:
    """A server of all the names of the world: each has one A record, which lasts ``ttl`` seconds.

    ``asked`` is what it was asked for. After ``close`` nobody answers any more.
    """

    def __init__(self, namespace: str, address: str, *, answer: str = "198.51.100.7", ttl: int = 1) -> None:
        self.asked: list[str] = []
        self._answer, self._ttl = ipaddress.ip_address(answer).packed, ttl
        self._socket = in_namespace_thread(namespace, lambda: socket_of(family_of(address), "UDP"))
        self._socket.bind((address, 53))
        self._ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ours.close()
        self._thread.join()

    def _run(self) -> None:
        with self._socket, self._theirs, selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._theirs, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._theirs in ready:
                    return
                try:
                    query, client = self._socket.recvfrom(4096)
                except OSError:  # an ICMP error of an answer before
                    continue
                self._socket.sendto(self._reply(query), client)

    def _reply(self, query: bytes) -> bytes:
        name, end = _name(query, 12)
        self.asked.append(name.lower())
        has = struct.unpack("!H", query[end : end + 2])[0] == NUMBERS["A"]
        head = query[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, int(has), 0, 0) + query[12 : end + 4]
        body = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, self._ttl, 4) + self._answer
        return head + (body if has else b"")
