"""A network namespace of this benchmark's own, so that the network plugin's host is not the machine."""

import ctypes
import os
import subprocess

_CLONE_NEWNET = 0x40000000
_UPLINK = "uplink"
_SETUP = (
    ("link", "set", "dev", "lo", "up"),
    ("link", "add", "name", _UPLINK, "type", "veth", "peer", "name", f"{_UPLINK}-peer"),
    ("link", "set", "dev", f"{_UPLINK}-peer", "up"),
    ("address", "add", "192.0.2.10/24", "dev", _UPLINK),
    ("link", "set", "dev", _UPLINK, "up"),
    ("route", "add", "default", "via", "192.0.2.1", "dev", _UPLINK),
)


def enter() -> str:
    """Take this process, and whatever it starts from now on, into a namespace with an uplink to nowhere.

    Returns what the names of the pods' namespaces may begin with. The namespace ends with its last process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "a network namespace needs root")
    for words in _SETUP:
        subprocess.run(["ip", *words], check=True)
    return f"bench{os.getpid()}-"
