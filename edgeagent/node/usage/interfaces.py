"""Counters of network interfaces, from ``/proc/<pid>/net/dev``: those of the namespace of the process."""

import os
from pathlib import Path

from edgeagent.api.usage import InterfaceUsage
from edgeagent.node.usage.kernelfiles import MOST_DIGITS, read_small

_FIELDS = 16
MAX_INTERFACES = 64


def interfaces_of(text: str) -> list[InterfaceUsage]:
    """Each interface but loopback, in the kernel's order. ``text`` as in proc_net_dev(5)."""
    found = []
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")
        if not colon or name.strip() == "lo":
            continue
        fields = rest.split()
        digits = "".join(fields)
        if len(fields) < _FIELDS or not (digits.isascii() and digits.isdigit()):
            continue
        if max(map(len, fields)) > MOST_DIGITS:
            continue
        numbers = [int(field) for field in fields]
        found.append(
            InterfaceUsage(
                interface=name.strip(),
                received_bytes=numbers[0],
                received_packets=numbers[1],
                received_errors=numbers[2],
                received_drops=numbers[3],
                sent_bytes=numbers[8],
                sent_packets=numbers[9],
                sent_errors=numbers[10],
                sent_drops=numbers[11],
            )
        )
    return found[:MAX_INTERFACES]


def process_interfaces(root: Path, pid: int) -> list[InterfaceUsage]:
    """The interfaces that ``pid`` sees; none where that is the host's own network, or cannot be told."""
    namespace = _namespace(f"{root}/proc/{pid}/ns/net")
    if not namespace or namespace == _namespace(f"{root}/proc/self/ns/net"):
        return []
    return interfaces_of(read_small(f"{root}/proc/{pid}/net/dev"))


def _namespace(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
