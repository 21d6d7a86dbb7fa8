"""Which DNS servers answer for all names but the cluster's."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from edgeagent_network.config import NetworkConfig

MAX_UPSTREAMS = 8
MAX_FILE_BYTES = 65536
STUBS = ("127.0.0.53", "127.0.0.54")
"""Where systemd-resolved answers: it remembers names by itself, so its own servers are asked instead."""
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class Upstreams:
    """``root`` is where the node's files lie.

    The node's servers of before stay while it names none: a network manager may empty the file when the
    uplink is down, and what is remembered must still be answered.
    """

    def __init__(self, config: NetworkConfig, root: Path = Path("/")) -> None:
        self._config = config
        self._root = root
        self._found: tuple[str, ...] = ()

    def find(self) -> tuple[tuple[str, ...], list[str]]:
        """The addresses, best first; and what is wrong, a sentence each."""
        place = "plugins.network.upstreams"
        wanted: Iterable[str] = self._config.upstreams
        if not self._config.upstreams:
            place, wanted = "/etc/resolv.conf", self._servers("etc/resolv.conf")
            if set(wanted) & set(STUBS):
                place = "/run/systemd/resolve/resolv.conf"
                wanted = self._servers("run/systemd/resolve/resolv.conf")
        good, bad = [], []
        for text in dict.fromkeys(wanted):
            if not _is_address(text):
                bad.append(f"{place}: {text[:100]!r} is not an IP address")
            elif text != self._config.dns_address:  # that would be this very server
                good.append(text)
        self._found = tuple(good[:MAX_UPSTREAMS]) or self._found
        if not self._found:
            bad.append(f"{place} names no DNS server: only the cluster's names are known")
        return self._found, bad

    def _servers(self, path: str) -> list[str]:
        try:
            with open(self._root / path, "rb") as file:
                text = file.read(MAX_FILE_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return []
        lines = (line.split() for line in text.splitlines())
        return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _is_address(text: str) -> bool:
    base, percent, scope = text.partition("%")
    try:
        six = ip_address(base).version == 6
    except ValueError:
        return False
    return not percent or (six and _SCOPE.fullmatch(scope) is not None)
