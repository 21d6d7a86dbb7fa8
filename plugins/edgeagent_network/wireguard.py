"""The way to other nodes' pods through WireGuard: https://www.wireguard.com/ and wg(8).

The kernel's own is used, or the program wireguard-go where the kernel has none. A peer may send from the
ranges of its own pods and from nowhere else.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent_network.hostlinks import HostLinks, Route, dress
from edgeagent_network.peerplan import Peer, Plan
from edgeagent_network.programs import Runner
from edgeagent_network.wireguardkey import NodeKey

DEVICE = "edge-wg"
SESSION_SECONDS = 180
"""For how long a session is good after its handshake (REJECT_AFTER_TIME)."""
_PEERS_AT_ONCE = 100


class Seen(msgspec.Struct, frozen=True):
    """A peer as the device has it. ``handshake`` is a Unix time, 0 for never; bytes are of this session."""

    endpoint: str
    ranges: frozenset[str]
    handshake: int
    received: int
    sent: int
    keepalive: int


class _Device(msgspec.Struct, frozen=True):
    public_key: str = ""
    port: int = 0
    peers: dict[str, Seen] = msgspec.field(default_factory=dict)


class WireGuard:
    """``port`` is what nodes listen on that say no other; ``keepalive`` seconds, 0 for none.

    ``now`` is Unix time; ``root`` is where the machine's files are.
    """

    device = DEVICE

    def __init__(
        self,
        run: Runner,
        key: NodeKey,
        port: int,
        keepalive: int,
        now: Callable[[], float],
        root: Path = Path("/"),
    ) -> None:
        self._run = run
        self._key = key
        self._port = port
        self._keepalive = keepalive
        self._now = now
        self._root = root
        self._told: dict[str, str] = {}  # endpoints that this process gave, by key

    def prepare(self, plan: Plan, host: HostLinks, mtu: int, ips: Sequence[str]) -> dict[str, str]:
        """Make the device as it should be, with all peers in it; why one is not, by name.

        Peers that are right already are not touched. PermanentError where neither the kernel nor a program
        knows WireGuard.
        """
        public = self._key.public()
        link = host.links.get(DEVICE)
        found = self._read() if link is not None else None
        if found is None:
            if link is not None:
                self._run(["ip", "link", "del", "dev", DEVICE])
            link = None
            self._make()
            found = self._read() or _Device()
            self._told.clear()
        port = plan.port or self._port
        if found.public_key != public or found.port != port:
            # The file's name is all that wg is told of the key.
            self._run(["wg", "set", DEVICE, "listen-port", str(port), "private-key", str(self._key.file)])
        dress(self._run, DEVICE, link, mtu, ips)
        failed = {
            peer.name: "it has this node's own public key: remove wireguard.key on one of them"
            for peer in plan.peers
            if peer.public_key == public
        }
        wanted = {
            peer.name: self._wanted(peer, found.peers.get(peer.public_key))
            for peer in plan.peers
            if peer.name not in failed
        }
        failed |= self._set({name: words for name, words in wanted.items() if words})
        self._told = {peer.public_key: self._endpoint(peer) for peer in plan.peers if peer.name not in failed}
        return failed

    def routes(self, peer: Peer, host: HostLinks) -> list[Route]:
        """A route for each range."""
        return [Route(str(cidr), DEVICE) for cidr in peer.cidrs]

    def forget(self, peers: Iterable[Peer]) -> None:
        """Take all other peers away."""
        found = self._read()
        if found is not None:
            gone = sorted(found.peers.keys() - {peer.public_key for peer in peers})
            for first in range(0, len(gone), _PEERS_AT_ONCE):
                some = gone[first : first + _PEERS_AT_ONCE]
                words = [word for key in some for word in ("peer", key, "remove")]
                self._run(["wg", "set", DEVICE, *words])

    def seen(self) -> dict[str, Seen]:
        """The device's peers by key."""
        found = self._read()
        return found.peers if found is not None else {}

    def _make(self) -> None:
        try:
            self._run(["ip", "link", "add", "name", DEVICE, "type", "wireguard"])
        except TemporaryError as error:
            said = str(error)
            if "Unknown device type" not in said and "not supported" not in said:
                raise
        else:
            return
        # In a scope of its own it outlives the agent, as the kernel's would.
        scope = ["systemd-run", "--scope", "--quiet", "--collect", "--"]
        has_systemd = (self._root / "run/systemd/system").is_dir()
        try:
            self._run([*(scope if has_systemd else ()), "wireguard-go", DEVICE])
        except EdgeAgentError as error:
            raise PermanentError(
                "the kernel has no WireGuard (module wireguard), and wireguard-go cannot stand in for it "
                f"(Debian's package wireguard-go; it needs /dev/net/tun): {error}",
                reason="KernelFeatureMissing",
            ) from None

    def _read(self) -> _Device | None:
        """What the device has; None where there is none that answers."""
        lines = self._run(["wg", "show", DEVICE, "dump"], check=False).splitlines()
        if not lines:
            return None
        own = lines[0].split("\t")
        peers = {}
        for line in lines[1:]:
            key, _, endpoint, ranges, handshake, received, sent, keepalive = line.split("\t")
            peers[key] = Seen(
                endpoint,
                frozenset(ranges.split(",")) if ranges != "(none)" else frozenset(),
                int(handshake),
                int(received),
                int(sent),
                int(keepalive) if keepalive != "off" else 0,
            )
        return _Device(own[1], int(own[2]), peers)

    def _endpoint(self, peer: Peer) -> str:
        host = f"[{peer.address}]" if peer.address.version == 6 else str(peer.address)
        return f"{host}:{peer.port or self._port}"

    def _wanted(self, peer: Peer, seen: Seen | None) -> list[str]:
        """What is to be said of a peer to wg(8); nothing where it is as it should be."""
        endpoint, ranges = self._endpoint(peer), frozenset(map(str, peer.cidrs))
        words = []
        if seen is None or (seen.endpoint != endpoint and not self._has_roamed(peer, endpoint, seen)):
            words += ["endpoint", endpoint]
        if seen is None or seen.ranges != ranges:
            words += ["allowed-ips", ",".join(sorted(ranges))]
        if (seen.keepalive if seen is not None else 0) != self._keepalive:
            words += ["persistent-keepalive", str(self._keepalive)]
        return ["peer", peer.public_key, *words] if words else []

    def _has_roamed(self, peer: Peer, endpoint: str, seen: Seen) -> bool:
        """Whether it is the peer itself that speaks from elsewhere, as behind a router that translates."""
        told = self._told.get(peer.public_key)
        if told is not None:
            return told == endpoint
        return self._now() - seen.handshake < SESSION_SECONDS

    def _set(self, words: dict[str, list[str]]) -> dict[str, str]:
        failed = {}
        names = list(words)
        for first in range(0, len(names), _PEERS_AT_ONCE):
            some = names[first : first + _PEERS_AT_ONCE]
            try:
                self._run(["wg", "set", DEVICE, *(word for name in some for word in words[name])])
            except TemporaryError:
                for name in some:
                    try:
                        self._run(["wg", "set", DEVICE, *words[name]])
                    except TemporaryError as error:
                        failed[name] = str(error)
        return failed
