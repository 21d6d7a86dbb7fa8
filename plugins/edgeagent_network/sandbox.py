"""A pod's place on the network: a named namespace and a routed veth pair, with no bridge and no ARP.

The pod's end has its addresses as /32 and /128 and a gateway that is nobody's, with a permanent neighbour
entry for the host's end; the host has a route and a permanent neighbour entry for each address. The host's
end is given an alias as the last step, so that a link with its alias is a whole sandbox, and says whose; the
prefix of namespaces is in it, so that nobody takes it for another's.
"""

import json
import re
from collections.abc import Collection, Sequence
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent_network.programs import Runner

PREFIX = "edge-"
NETNS = Path("/run/netns")
GATEWAY4, GATEWAY6 = "169.254.1.1", "fe80::1"
HOST_MAC = "ee:ee:ee:ee:ee:ee"
"""The same of all hosts' ends: no two of them are ever on one link."""
MAX_UID_CHARACTERS = 64
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LINK = re.compile(r"edge[0-9a-f]{10}")
_MAX_LISTING_CHARACTERS = 64_000_000


class Found(msgspec.Struct, frozen=True):
    """A pod's link on the host: whose it says it is, and which addresses. A half-made one says nothing."""

    link: str
    mtu: int
    uid: str
    ips: tuple[str, ...]


def check_uid(uid: str) -> str:
    """The uid itself. PermanentError (reason ``InvalidUID``) where no namespace can be named after it."""
    if len(uid) > MAX_UID_CHARACTERS or not _UID.fullmatch(uid):
        raise PermanentError(
            f"uid {uid[:MAX_UID_CHARACTERS]!r}: must be 1 to {MAX_UID_CHARACTERS} of A-Z, a-z, 0-9, '-', "
            "'_' and '.', beginning with a letter or digit",
            reason="InvalidUID",
        )
    return uid


def link_name(uid: str) -> str:
    """The host's end of the pod's pair."""
    return f"edge{sha256(uid.encode()).hexdigest()[:10]}"


def is_pod_link(name: str) -> bool:
    """Whether a link is named as hosts' ends of pairs are."""
    return bool(_LINK.fullmatch(name))


def pod_mac(uid: str) -> str:
    """The pod's end's address: locally administered, and the same whenever it is made."""
    return ":".join(["02", *(f"{byte:02x}" for byte in sha256(uid.encode()).digest()[5:10])])


class Sandboxes:
    """All pods' places on one host. ``prefix`` begins the names of its namespaces, and of no one else's."""

    def __init__(self, run: Runner, prefix: str = PREFIX, netns: Path = NETNS) -> None:
        self._run = run
        self._prefix = prefix
        self._netns = netns

    def path(self, uid: str) -> Path:
        """The pod's namespace."""
        return self._netns / f"{self._prefix}{uid}"

    def ensure(self, uid: str, ips: Sequence[str], mtu: int, node_ips: Sequence[str]) -> None:
        """Make the pod's place, or leave a whole one as it is; a half-made one is made anew.

        ``node_ips``: the host's own addresses in pods' ranges, which it speaks to pods from.
        PermanentError (reason ``KernelFeatureMissing``) where the kernel cannot.
        """
        if self.path(uid).exists():
            if self._is_whole(uid, ips):
                return
            self.remove(uid)
        try:
            self._make(uid, ips, mtu, node_ips)
        except TemporaryError as error:
            _explain(error)
            # Perhaps a link is left of a namespace that is gone, or another process was faster.
            self.remove(uid)
            self._make(uid, ips, mtu, node_ips)

    def remove(self, uid: str) -> None:
        """Take the pod's place away, whatever there is of it."""
        self._delete([link_name(uid)], [self.path(uid)])

    def found(self) -> list[Found]:
        """The links of all pods whose places were made here; half-made ones are not among them."""
        text = self._run(["ip", "-j", "link", "show", "type", "veth"])
        if len(text) > _MAX_LISTING_CHARACTERS:
            raise TemporaryError("ip link show: far too many links", reason="NetworkFailed")
        links = [link for link in json.loads(text or "[]") if _LINK.fullmatch(link.get("ifname", ""))]
        told = (
            _found(link["ifname"], int(link["mtu"]), link.get("ifalias", ""), self._prefix) for link in links
        )
        return [one for one in told if one is not None]

    def collect(self, known: Collection[str]) -> list[str]:
        """Remove the places of all other pods, unless a process is in them; their uids.

        They are told by their links, and so nothing is touched that was not made here.
        """
        gone = [one.uid for one in self.found() if one.uid not in known and not self.is_used(one.uid)]
        for uid in gone:
            self.remove(uid)
        return gone

    def is_used(self, uid: str) -> bool:
        """Whether a process is in the pod's namespace."""
        path = self.path(uid)
        return path.exists() and bool(self._run(["ip", "netns", "pids", path.name], check=False).strip())

    def set_mtu(self, uids: Collection[str], mtu: int) -> None:
        """Give links that are there another MTU."""
        self._batch([f"link set dev {link_name(uid)} mtu {mtu}" for uid in uids])
        for uid in uids:
            self._run(["ip", "-n", self.path(uid).name, "link", "set", "dev", "eth0", "mtu", str(mtu)])

    def remove_node_addresses(self, ips: Sequence[str]) -> None:
        """The host is no longer one of these in a pods' range."""
        if ips:
            self._run(
                ["ip", "-force", "-batch", "-"],
                "".join(f"address del {_alone(ip)} dev lo\n" for ip in ips),
                check=False,
            )

    def _is_whole(self, uid: str, ips: Sequence[str]) -> bool:
        text = self._run(["ip", "-j", "link", "show", "dev", link_name(uid)], check=False)
        return bool(text) and json.loads(text)[0].get("ifalias") == _alias(self._prefix, uid, ips)

    def _make(self, uid: str, ips: Sequence[str], mtu: int, node_ips: Sequence[str]) -> None:
        link, space, mac = link_name(uid), self.path(uid).name, pod_mac(uid)
        own = {ip_address(ip).version: ip for ip in node_ips}
        has_six = any(ip_address(ip).version == 6 for ip in ips)
        self._batch(
            [
                *(f"address replace {_alone(ip)} dev lo{' nodad' if ':' in ip else ''}" for ip in node_ips),
                f"netns add {space}",
                f"link add name {link} mtu {mtu} address {HOST_MAC} type veth "
                f"peer name eth0 mtu {mtu} address {mac} netns {space}",
                *([f"link set dev {link} addrgenmode none"] if has_six else []),
            ]
        )
        # No pod may teach its host routes by router advertisements.
        safe = "accept_ra=0" if has_six else "disable_ipv6=1"
        self._run(["sysctl", "-e", "-q", "-w", f"net.ipv6.conf.{link}.{safe}"])
        inside = ["link set dev lo up"]
        if has_six:
            inside += ["link set dev eth0 addrgenmode none"]
        inside += ["link set dev eth0 up"]
        if has_six:
            inside += ["address add fe80::2/64 dev eth0 nodad"]
        outside = [f"link set dev {link} up"]
        for ip in ips:
            six = ip_address(ip).version == 6
            gateway = GATEWAY6 if six else GATEWAY4
            inside += [
                f"address add {_alone(ip)} dev eth0{' nodad' if six else ''}",
                f"neigh replace {gateway} lladdr {HOST_MAC} dev eth0 nud permanent",
                *([] if six else [f"route add {gateway} dev eth0 scope link"]),
                f"route add default via {gateway} dev eth0 src {ip}",
            ]
            source = own.get(6 if six else 4)
            outside += [
                f"neigh replace {ip} lladdr {mac} dev {link} nud permanent",
                f"route replace {_alone(ip)} dev {link}{f' src {source}' if source else ''}",
            ]
        self._batch(inside, ("-n", space))
        self._batch([*outside, f'link set dev {link} alias "{_alias(self._prefix, uid, ips)}"'])

    def _batch(self, commands: Sequence[str], options: Sequence[str] = ()) -> None:
        if commands:
            self._run(["ip", *options, "-batch", "-"], "\n".join(commands) + "\n")

    def _delete(self, links: Sequence[str], spaces: Sequence[Path]) -> None:
        commands = [*(f"link del dev {link}" for link in links), *(f"netns del {one.name}" for one in spaces)]
        self._run(["ip", "-force", "-batch", "-"], "\n".join(commands) + "\n", check=False)
        if left := [path.name for path in spaces if path.exists()]:
            raise TemporaryError(
                f"ip netns del: {', '.join(left)[:200]} is still there", reason="NetworkFailed"
            )


def _alone(ip: str) -> str:
    return f"{ip}/{ip_address(ip).max_prefixlen}"


def _alias(prefix: str, uid: str, ips: Sequence[str]) -> str:
    return " ".join([f"edgeagent-pod:{prefix}:{uid}", *ips])


def _found(link: str, mtu: int, alias: str, prefix: str) -> Found | None:
    mark, *ips = alias.split(" ")
    uid = mark.removeprefix(f"edgeagent-pod:{prefix}:")
    if uid == mark or link_name(uid) != link or not _UID.fullmatch(uid):
        return None
    try:
        return Found(link, mtu, uid, tuple(str(ip_address(ip)) for ip in ips))
    except ValueError:
        return None


def _explain(error: EdgeAgentError) -> None:
    """Raise a PermanentError where it is the kernel that cannot."""
    said = str(error)
    if "Unknown device type" in said or "Operation not supported" in said:
        raise PermanentError(
            f"the kernel lacks a part of pod networks (veth links, or IPv6 for a pod range of IPv6): {said}",
            reason="KernelFeatureMissing",
        ) from None
