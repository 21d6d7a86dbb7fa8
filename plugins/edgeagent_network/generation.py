"""The generation of nftables: a number of the kernel's that every change of any table counts up.

Two equal readings mean that nobody changed anything between them, and cost no process and no listing.
https://docs.kernel.org/netlink/specs/nftables.html (getgen)
"""

import os
import socket
import struct
from collections.abc import Callable

from edgeagent.api.errors import PermanentError

Generation = Callable[[], int]
"""Reads the number, of the namespace that it was made for."""

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_GETGEN = 16
_NFTA_GEN_ID = 1
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_FAMILY = struct.Struct("!BBH")  # nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")
_MOST = 65_536


def netlink_socket() -> socket.socket:
    """A socket to the nftables of the namespace that the calling thread is in.

    PermanentError (reason ``KernelFeatureMissing``) where the kernel has none.
    """
    try:
        made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    except OSError as error:
        raise PermanentError(
            f"the kernel has no nftables (nf_tables): {error.strerror}", reason="KernelFeatureMissing"
        ) from None
    made.settimeout(5)
    return made


def generation_of(opened: socket.socket) -> Generation:
    """A reader on this socket."""
    return lambda: _read(opened)


def own_generation() -> Generation:
    """A reader of the namespace that its first caller is in; the socket is opened then, and stays open."""
    opened: list[socket.socket] = []

    def read() -> int:
        if not opened:
            opened.append(netlink_socket())
        return _read(opened[0])

    return read


def _read(opened: socket.socket) -> int:
    kind = _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETGEN
    body = _FAMILY.pack(0, 0, 0)
    opened.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST, 0, 0) + body)
    answer = opened.recv(_MOST)
    code = int.from_bytes(answer[_HEADER.size : _HEADER.size + 4], "little", signed=True)
    if _HEADER.unpack_from(answer)[1] == 2:  # NLMSG_ERROR
        said = os.strerror(-code)
        raise PermanentError(f"the kernel's nftables does not answer: {said}", reason="KernelFeatureMissing")
    place = _HEADER.size + _FAMILY.size
    while place + _ATTRIBUTE.size <= len(answer):
        length, name = _ATTRIBUTE.unpack_from(answer, place)
        if name == _NFTA_GEN_ID:
            return int.from_bytes(answer[place + 4 : place + 8], "big")
        place += max(length + 3 & ~3, _ATTRIBUTE.size)
    raise PermanentError("the kernel's nftables tells no generation", reason="KernelFeatureMissing")
