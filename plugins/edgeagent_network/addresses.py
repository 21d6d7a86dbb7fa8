"""Which pod has which addresses, in a file that outlives the agent and the machine's reboots."""

from collections import deque
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_network.wholefile import read_whole, write_whole

Range = IPv4Network | IPv6Network
MAX_FILE_BYTES = 32_000_000
MAX_FREED = 4_096
"""How many freed addresses of a range are remembered, so that the one freed first is given out first."""


class _RangeUse(msgspec.Struct):
    last: int = 0  # the offset of the last address that was given out for the first time
    freed: list[int] = []


class _File(msgspec.Struct):
    cidrs: list[str] = []
    pods: dict[str, list[str]] = {}
    ranges: dict[str, _RangeUse] = {}


class Addresses:
    """Gives each pod one address of each range, and no address twice. One process at a time may use a file.

    A file that cannot be read is set aside as ``<name>.corrupt`` (``set_aside``), and ``adopt`` tells what
    pods have. ``cidrs`` are the ranges as last given to ``use``, also by a process before.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = read_whole(file, _File, max_bytes=MAX_FILE_BYTES, check=_check)
        self.set_aside = kept.set_aside
        self._held = kept.value or _File()
        self._owners = {ip: uid for uid, ips in self._held.pods.items() for ip in ips}

    @property
    def cidrs(self) -> list[str]:
        """The node's ranges."""
        return list(self._held.cidrs)

    @property
    def ranges(self) -> list[str]:
        """The node's ranges, and those before them that pods still have addresses of."""
        return list(self._held.ranges)

    @property
    def pods(self) -> Mapping[str, list[str]]:
        """The addresses of all pods by uid."""
        return self._held.pods

    def use(self, cidrs: Iterable[str]) -> list[str]:
        """Take new pods' addresses out of these ranges, one of each family; pods that live keep theirs.

        Gives the node's own addresses in ranges that neither a pod nor the node uses any more.
        PermanentError (reason ``InvalidPodCIDR``) for what is no range, and then nothing changes.
        """
        ranges = [parse_range(cidr) for cidr in cidrs]
        texts = [str(one) for one in ranges]
        if len({one.version for one in ranges}) != len(ranges):
            raise PermanentError(
                f"pod ranges {', '.join(texts)}: one of each family at most", reason="InvalidPodCIDR"
            )
        gone = [
            cidr for cidr in self._held.ranges if cidr not in texts and not self._lives_in(ip_network(cidr))
        ]
        if texts == self._held.cidrs and not gone:
            return []
        self._held.cidrs = texts
        for cidr in texts:
            self._held.ranges.setdefault(cidr, _RangeUse())
        for cidr in gone:
            del self._held.ranges[cidr]
        self._save()
        return [node_address(ip_network(cidr)) for cidr in gone]

    def allocate(self, uid: str) -> list[str]:
        """The pod's addresses, the same for as long as it is not freed, in the order of the ranges.

        TemporaryError (reason ``AddressesExhausted``) where a range has none left.
        """
        if (found := self._held.pods.get(uid)) is not None:
            return list(found)
        ranges = [(cidr, parse_range(cidr)) for cidr in self._held.cidrs]
        taken = [(cidr, self._next(cidr, within)) for cidr, within in ranges]
        for cidr, (offset, is_first_use) in taken:
            if is_first_use:
                self._held.ranges[cidr].last = offset
        given = [str(within[offset]) for (_, within), (_, (offset, _)) in zip(ranges, taken, strict=True)]
        self._set(uid, given)
        return list(given)

    def adopt(self, uid: str, ips: list[str]) -> None:
        """The pod has these addresses already, as is seen of its link. Of two such pods the first counts."""
        if uid in self._held.pods or any(ip in self._owners for ip in ips):
            return
        self._set(uid, list(ips))

    def free(self, uid: str) -> None:
        """The pod is gone; succeeds where it is not known."""
        ips = self._held.pods.pop(uid, None)
        if ips is None:
            return
        for ip in ips:
            del self._owners[ip]
            for cidr, use in self._held.ranges.items():
                if ip_address(ip) not in (within := ip_network(cidr)):
                    continue
                first, last = pod_offsets(within)
                if first <= (offset := _offset(ip, within)) <= last:
                    use.freed = list(deque([*use.freed, offset], maxlen=MAX_FREED))
        self._save()

    def _set(self, uid: str, ips: list[str]) -> None:
        self._held.pods[uid] = ips
        for cidr, use in self._held.ranges.items():  # ranges of before and after may overlap
            within = ip_network(cidr)
            offsets = {_offset(ip, within) for ip in ips if ip_address(ip) in within}
            use.freed = [one for one in use.freed if one not in offsets]
        self._owners |= dict.fromkeys(ips, uid)
        try:
            self._save()
        except TemporaryError:
            del self._held.pods[uid]
            for ip in ips:
                del self._owners[ip]
            raise

    def _lives_in(self, within: Range) -> bool:
        return any(ip_address(ip) in within for ip in self._owners)

    def _next(self, cidr: str, within: Range) -> tuple[int, bool]:
        """An address that no pod has, and whether it is one that is not among the freed."""
        use = self._held.ranges[cidr]
        first, last = pod_offsets(within)
        freed = set(use.freed)
        most = len(freed) + len(self._owners) + 1  # so many are passed at most before a new one is found
        offset = use.last
        for _ in range(min(last - first + 1, most)):
            offset = offset + 1 if first <= offset + 1 <= last else first
            if offset not in freed and str(within[offset]) not in self._owners:
                return offset, True
        for offset in use.freed:
            if str(within[offset]) not in self._owners:
                return offset, False
        raise TemporaryError(
            f"pod range {cidr} has no address left: {max(0, last - first + 1)} for pods, all in use",
            reason="AddressesExhausted",
        )

    def _save(self) -> None:
        write_whole(self._file, msgspec.json.encode(self._held), "pods' addresses cannot be written")


def parse_range(cidr: str) -> Range:
    """A range of pods' addresses. PermanentError (reason ``InvalidPodCIDR``) where it is none."""
    try:
        if len(cidr) > 64:
            raise ValueError("too long")
        return ip_network(cidr)
    except ValueError as error:
        raise PermanentError(f"pod range {cidr[:64]!r}: {error}", reason="InvalidPodCIDR") from None


def pod_offsets(within: Range) -> tuple[int, int]:
    """The first and the last address for pods, counted from the range's start.

    The one of number 0 names the network, 1 is the node's, and the last is IPv4's broadcast.
    """
    return 2, within.num_addresses - (2 if within.version == 4 else 1)


def node_address(within: Range) -> str:
    """The node's own address in a range."""
    return str(within[1 if within.num_addresses > 1 else 0])


def _offset(ip: str, within: Range) -> int:
    return int(ip_address(ip)) - int(within.network_address)


def _check(held: _File) -> None:
    """ValueError or PermanentError for what cannot have been written here."""
    for cidr in held.cidrs:
        parse_range(cidr)
        if cidr not in held.ranges:
            raise ValueError(cidr)
    for cidr, use in held.ranges.items():
        first, last = pod_offsets(parse_range(cidr))
        if any(not first <= offset <= last for offset in use.freed) or len(set(use.freed)) != len(use.freed):
            raise ValueError(cidr)
    ips = [str(ip_address(ip)) for pod in held.pods.values() for ip in pod]
    if len(set(ips)) != len(ips):
        raise ValueError("an address twice")
