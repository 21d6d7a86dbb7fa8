"""A node's renewal against the hub's own, with a clock that is moved by hand and no broker between them."""

import asyncio
import functools
import random
import ssl
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ParamSpec

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.decode import KubernetesObject, decode_json
from edgeagent.api.objects.trust import CLUSTER_TRUST_NAME, ClusterTrust
from edgeagent.cluster.authorities import load_authorities, retire_previous, rotate_authority
from edgeagent.cluster.init import init
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.nodes import add_node, rotate_keys
from edgeagent.cluster.renewal import AuthoritySource, Renewals
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.signing import SigningSource
from edgeagent.cluster.store import Store
from edgeagent.cluster.trust import follow_files
from edgeagent.node.identity import IdentityDir
from edgeagent.node.renewal import Renewal, RenewalMeans
from edgeagent.node.store.database import Database
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import Certificate, PrivateKey, check_chain, read_bundle, read_certificate
from edgeagent.wire.join import BrokerAddress

DAY = 86_400.0
YEAR = 365 * DAY
CLUSTER, NODE = "plant", "gw-1"

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that is a coroutine, run on a loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class HubSide:
    """A hub's directory and its answers. The clock is the hub's."""

    def __init__(self, directory: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.files: HubFiles = init(
            directory, CLUSTER, [BrokerAddress(host="127.0.0.1", port=8883)], clock=clock
        )
        self.store = Store(self.files.database)
        self.settings = load_settings(self.files.settings)
        self.signing = SigningSource(self.files.signing)
        self.renewals = Renewals(
            self.store,
            AuthoritySource(self.files, clock).current,
            self.signing.current,
            self.settings,
            clock,
        )
        self.follow()

    def follow(self) -> None:
        """The ClusterTrust is as the files are."""
        follow_files(self.store, self.files, self.settings, self.clock)

    def rotate_ca(self, *, finish: bool = False) -> None:
        """A new CA, and perhaps the old one retired."""
        rotate_authority(self.files, CLUSTER, self.clock)
        if finish:
            retire_previous(self.files, self.clock)
        self.follow()

    def rotate_key(self) -> None:
        """A new signing key."""
        rotate_keys(self.files)

    @property
    def trust(self) -> ClusterTrust:
        """What nodes are told."""
        stored = self.store.find("ClusterTrust", "", CLUSTER_TRUST_NAME)
        assert stored is not None
        return decode_json(stored.body, ClusterTrust)

    def lets_in(self, certificate: bytes, now: float) -> bool:
        """Whether a broker with these files would."""
        own, *between = read_bundle(certificate)
        try:
            bundle = load_authorities(self.files, self.clock).bundle
            check_chain(own, bundle, now=now, between=between)
        except Exception:
            return False
        return True


class NodeSide:
    """One enrolled node. ``online`` is whether it has a way to the hub; the door is always there."""

    def __init__(self, hub: HubSide, directory: Path, name: str = NODE, *, seed: int = 1) -> None:
        self.hub = hub
        self.name = name
        self.clock = hub.clock
        self.ahead = 0.0
        """By how many seconds the node's own clock is wrong."""
        self.rng = random.Random(seed)
        self.files = IdentityDir(directory / "identity")
        join = add_node(hub.files, name, hub.clock, output=None)
        self.files.write(join)
        self.anchor = join.trust
        self.database = Database(directory / "agent.db", now=0)
        self.connected = True
        self.reachable = True
        self.told: list[KubernetesObject] = [hub.trust]
        self.asked: list[bytes] = []
        self.answers: list[bytes] = []
        self.at_door = 0
        self.said: list[tuple[str, str, str]] = []
        self.contexts: list[ssl.SSLContext] = []
        self.failure: Exception | None = None
        """What goes wrong with each question."""
        self.lost: list[Exception] = []
        """What goes wrong with the next answers."""
        self.make()

    def make(self) -> None:
        """The renewal of an agent that has just started."""
        self.renewal = Renewal(
            RenewalMeans(
                cluster=CLUSTER,
                node=self.name,
                files=self.files,
                database=self.database,
                clock=self.clock,
                rng=self.rng,
                now=lambda: self.clock.now() + self.ahead,
                anchor=lambda: self.anchor,
                objects=lambda: self.told,
                connected=lambda: self.connected,
                ask=self.ask,
                ask_at_door=self.ask_at_door,
                probe=self.probe,
                use=self.contexts.append,
                say=lambda kind, reason, message: self.said.append((kind, reason, message)),
                on_change=lambda: None,
            )
        )

    async def ask(self, data: bytes) -> bytes:
        """The session's way."""
        if not self.connected:
            raise TemporaryError("not connected", reason="Disconnected")
        return self._answer(data, self.name)

    async def ask_at_door(self, data: bytes, listeners: Sequence[str]) -> bytes:
        """The enrolment listener's way."""
        self.at_door += 1
        assert listeners == self.hub.trust.spec.enrolment
        if not self.reachable:
            raise TemporaryError("nobody there", reason="NoAnswer")
        return self._answer(data, "")

    def _answer(self, data: bytes, name: str) -> bytes:
        self.asked.append(data)
        if self.failure is not None:
            raise self.failure
        answer = self.hub.renewals.answer(data, name=name)
        if answer is None:
            raise TemporaryError("the hub did not answer", reason="NoAnswer")
        self.answers.append(answer)
        if self.lost:
            raise self.lost.pop(0)
        return answer

    async def probe(self, tls: ssl.SSLContext) -> None:
        """The broker lets in whom the hub's files say."""
        staged = self.files.path / ".renewed.partial" / "node.crt"
        if not self.hub.lets_in(staged.read_bytes(), self.hub.clock.now()):
            raise TemporaryError("refused", reason="CertificateRefused")

    @property
    def certificate(self) -> Certificate:
        """The one in use."""
        return read_certificate(self.renewal.tls_files.certificate.read_bytes())

    def works(self) -> bool:
        """Whether a broker would let the node in, with a pair that belongs together."""
        files = self.renewal.tls_files
        fits = self.certificate.fits(PrivateKey(files.key.read_bytes()))
        return fits and self.hub.lets_in(files.certificate.read_bytes(), self.hub.clock.now())

    def cut(self, reason: str) -> None:
        """The session is lost, or could not be made."""
        self.connected = False
        self.renewal.disconnected(reason)

    def connect(self) -> None:
        """A session is there again."""
        self.connected = True
        self.renewal.connected()


class Running:
    """The node's renewal at work."""

    def __init__(self, node: NodeSide) -> None:
        self._node = node

    async def __aenter__(self) -> NodeSide:
        self._task = asyncio.create_task(self._node.renewal.run())
        await self._node.clock.settle()
        return self._node

    async def __aexit__(self, *_: object) -> None:
        done = self._task.done()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert not done, self._task
