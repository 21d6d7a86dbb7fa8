"""What goes over a wire, as somebody hears it who has a tap on it: packet(7).

The kernel keeps what comes until it is asked for, and says how much it could not keep.
"""

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Self

from tests.support.netprobe import in_namespace_thread

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_STATISTICS, _PACKET_MR_PROMISC = 263, 1, 6, 1
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 32_000_000
_MAX_FRAME = 70_000  # segments are joined to one on their way between two namespaces
_IPV4, _IPV6 = 0x0800, 0x86DD


@dataclass(frozen=True)
class Packet:
    """An IP packet. ``payload`` is that of UDP or TCP, or what follows IP's own header for other protocols,
    which have no ports (0).
    """

    source: IPv4Address | IPv6Address
    target: IPv4Address | IPv6Address
    protocol: int
    ports: tuple[int, int]
    payload: bytes


class Sniffer:
    """Use it as a context: it hears all frames over a bridge of a namespace, whoever they are for."""

    def __init__(self, namespace: str, bridge: str) -> None:
        def listen() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            member = struct.pack("iHH8s", socket.if_nametoindex(bridge), _PACKET_MR_PROMISC, 0, b"")
            made.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
            made.bind((bridge, _ETH_P_ALL))
            made.setblocking(False)
            return made

        self._socket = in_namespace_thread(namespace, listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def frames(self) -> list[bytes]:
        """All that went by since the last call; AssertionError where some of it was not kept."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(_MAX_FRAME))
            except BlockingIOError:
                break
        _, lost = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        assert lost == 0, f"{lost} frames were not kept"
        return found


def packets(frames: Iterable[bytes]) -> list[Packet]:
    """The IP packets in Ethernet frames, without those of other protocols."""
    return [found for frame in frames if (found := _packet(frame)) is not None]


def _packet(frame: bytes) -> Packet | None:
    (kind,) = struct.unpack_from("!H", frame, 12)
    data = frame[14:]
    if kind == _IPV4:
        begin = (data[0] & 15) * 4
        protocol, source, target = data[9], data[12:16], data[16:20]
        is_first = not struct.unpack_from("!H", data, 6)[0] & 0x1FFF
    elif kind == _IPV6:
        begin, is_first = 40, True
        protocol, source, target = data[6], data[8:24], data[24:40]
    else:
        return None
    ports, payload = (0, 0), data[begin:]
    if is_first and protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        ports = struct.unpack_from("!HH", payload)
        payload = payload[8 if protocol == socket.IPPROTO_UDP else (payload[12] >> 4) * 4 :]
    return Packet(ip_address(source), ip_address(target), protocol, ports, payload)
