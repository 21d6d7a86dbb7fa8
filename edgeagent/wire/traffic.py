"""What a TCP connection has carried, as the kernel counts it: with TLS, without the headers of TCP and below.

tcp(7), ``TCP_INFO``; ``struct tcp_info`` in the kernel's ``include/uapi/linux/tcp.h`` (since Linux 4.1).
"""

import socket
import struct

import msgspec

_BYTES_ACKED = 120
_FIELDS = struct.Struct("@QQ")


class Traffic(msgspec.Struct, frozen=True):
    """Bytes that the other side has acknowledged, and that came from it."""

    sent: int = 0
    received: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.sent + other.sent, self.received + other.received)


def traffic_of(sock: object) -> Traffic:
    """Of an open socket; nothing where it is no TCP socket, or the kernel does not say."""
    if not isinstance(sock, socket.socket):
        return Traffic()
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + _FIELDS.size)
        return Traffic(*_FIELDS.unpack_from(info, _BYTES_ACKED))
    except (OSError, struct.error):
        return Traffic()
