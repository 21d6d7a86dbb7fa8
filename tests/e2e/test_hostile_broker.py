"""Whoever owns the broker can delay, and nothing else: a real agent behind a broker that does what it likes.

Against all of it the agent stays the process that it was, holds on to its last authentic state, leaves its
pods alone, and needs no memory to speak of. When the broker behaves again, so does everything else.
"""

import os
import struct
from collections.abc import Iterable, Iterator

import pytest

from edgeagent.wire.blob import encode_blob
from edgeagent.wire.canonical import digest
from edgeagent.wire.envelope import INDEX_TYPE, encode_envelope, sign_envelope
from edgeagent.wire.index import Index, encode_index
from edgeagent.wire.keys import SigningKey
from tests.support.cluster import CLUSTER, AgentProcess, Cluster, Seen, running, sleeper
from tests.support.hostilebroker import (
    Behaviour,
    Edited,
    HostileBroker,
    Memory,
    Packet,
    Reordered,
    Saying,
    publish,
)
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for
from tests.wire.sessions import CONNACK_5, remaining

pytestmark = pytest.mark.slow

NODE, OTHER = "n1", "n2"
PREFIX = f"edge/v1/{CLUSTER}/"
DESIRED = f"{PREFIX}nodes/{NODE}/desired"
MEMORY_BYTES = 128_000_000
"""The agent's resident set at its worst: its usual one, and some packets of the largest size."""
IMPATIENT = 'request_timeout = 2.0\nexit_timeout = 1.0\n[eviction]\npressure_transition_period = "1s"\n'


class Scene:
    """A cluster with a node behind the hostile broker, and what the node had before."""

    def __init__(self, cluster: Cluster, broker: HostileBroker, podman: PodmanService) -> None:
        self.cluster = cluster
        self.broker = broker
        self.podman = podman
        self.node = cluster.nodes[NODE]
        self._serial = 0
        self.memory = Memory(self.node.process.pid)
        self._process = self.node.process.pid
        self._before: dict[str, Seen] = {}
        self._generation = 0

    def pods(self) -> dict[str, Seen]:
        """The running containers by pod."""
        return {seen.pod: seen for seen in running(self.podman)}

    def begin(self) -> None:
        """All is well: note it down."""
        self.broker.behave(Behaviour())
        self.connected()
        self.memory.reset()
        self._before = self.pods()
        self._generation = int(self.node.read("/edge/v1/status")["generation"])

    def attack(self, behaviour: Behaviour, rounds: int = 1, timeout: float = 60.0) -> None:
        """Until the behaviour has done what it does ``rounds`` times; then nothing may be any different."""
        self.broker.behave(behaviour)
        wait_for(lambda: behaviour.rounds >= rounds, timeout, f"{rounds} rounds of {behaviour}")
        self.unharmed()

    def unharmed(self) -> None:
        """The same process with the same pods in the same authentic state, and no larger than it may be."""
        assert self.node.process.running
        assert self.node.process.pid == self._process
        status = self.node.read("/edge/v1/status")
        assert status is not None, "the agent does not answer"
        assert status["generation"] >= self._generation
        assert self.pods() == self._before
        assert {pod["metadata"]["name"] for pod in self.node.pods()} == set(self._before)
        assert self.memory.most < MEMORY_BYTES

    def connected(self) -> None:
        """Wait for a session, whatever it is worth."""
        wait_for(lambda: self.node.condition("Connected").get("status") == "True", 60, "the connection")

    def recovered(self) -> None:
        """The broker behaves: what an operator wants is done soon."""
        self.connected()
        self._serial += 1
        name = f"fresh-{self._serial}"
        self.cluster.apply(sleeper(name, NODE))
        self.cluster.wait_phase(name, "Running")
        self.cluster.ctl("delete", "pod", name)
        wait_for(lambda: name not in self.pods(), 20, "the pod to be gone")

        def in_force() -> bool:
            return bool(self.node.condition("DesiredStateInForce").get("status") == "True")

        wait_for(in_force, 20, "the desired state to be in force")


@pytest.fixture(scope="module")
def made(
    podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, HostileBroker]]:
    """The cluster, once for all tests."""
    podman_service.start()
    with Cluster(tmp_path_factory.mktemp("hostile"), podman_service) as cluster:
        node = cluster.add_node(NODE, extra=IMPATIENT)
        with HostileBroker(cluster.hub_dir, cluster.port) as broker:
            text = node.config.read_text()
            text = text.replace("reconnect_ceiling_seconds = 1.0", "reconnect_ceiling_seconds = 0.1")
            text = text.replace("[mqtt]", f'[mqtt]\nbrokers = ["127.0.0.1:{broker.port}"]', 1)
            node.config.write_text(text)
            node.start()
            cluster.apply(sleeper("kept", NODE))
            cluster.wait_phase("kept", "Running")
            yield cluster, broker
            node.process.terminate()
    podman_service.kill_all_containers()


@pytest.fixture
def scene(made: tuple[Cluster, HostileBroker], podman_service: PodmanService) -> Iterator[Scene]:
    """All is well before each test, and after it."""
    scene = Scene(*made, podman_service)
    scene.begin()
    yield scene
    scene.broker.behave(Behaviour())
    scene.unharmed()
    scene.recovered()
    assert "kept" in scene.pods()


def test_messages_replayed_again_and_again(scene: Scene) -> None:
    """Each message comes many times, with every one before it; old indexes and requests say nothing new."""
    heard: list[Packet] = []

    def change(packet: Packet) -> Iterable[Packet]:
        heard.append(packet.once())
        return [packet, *heard[-40:], *reversed(heard[-40:])]

    behaviour = Edited(change)
    scene.broker.behave(behaviour)
    scene.connected()
    scene.cluster.apply(sleeper("second", NODE))
    scene.cluster.wait_phase("second", "Running")
    before = operations(scene.node, "logs")
    scene.cluster.ctl("logs", "second")
    scene.cluster.ctl("delete", "pod", "second")
    scene.cluster.apply(sleeper("third", NODE))
    scene.cluster.wait_phase("third", "Running")
    assert scene.pods().keys() == {"kept", "third"}, "what was deleted does not come back with an old index"
    assert operations(scene.node, "logs") == before + 1, "one call is done once"
    assert any("/rpc/logs" in packet.topic for packet in heard)
    assert len({packet.payload for packet in heard if packet.topic == DESIRED}) >= 4
    scene.cluster.ctl("delete", "pod", "third")
    wait_for(lambda: scene.pods().keys() == {"kept"}, 20, "the pod to be gone")


def operations(node: AgentProcess, method: str) -> int:
    """How many rows of the node's audit log are of this method."""
    return node.run("audit").stdout.count(method)


def test_messages_out_of_order(scene: Scene) -> None:
    """The last first, also objects before the index that names them: the newest state is reached."""
    behaviour = Reordered()
    scene.broker.behave(behaviour)
    scene.connected()
    names = [f"pod-{number}" for number in range(4)]
    scene.cluster.apply(*(sleeper(name, NODE) for name in names))
    for name in names:
        scene.cluster.wait_phase(name, "Running")
    assert behaviour.rounds, "nothing came out of order"
    scene.cluster.ctl("delete", "pod", *names)
    wait_for(lambda: scene.pods().keys() == {"kept"}, 30, "the pods to be gone")


@pytest.mark.parametrize("what", ["desired", "objects"])
def test_messages_withheld(scene: Scene, what: str) -> None:
    """What is missing is waited for; nothing is taken away for it."""

    def change(packet: Packet) -> Iterable[Packet] | None:
        return [] if f"/{what}" in packet.topic else None

    behaviour = Edited(change)
    scene.broker.behave(behaviour)
    scene.cluster.apply(sleeper("unheard", NODE))
    wait_for(lambda: behaviour.rounds, 20, "something to be withheld")
    scene.unharmed()
    scene.broker.behave(Behaviour())
    scene.cluster.wait_phase("unheard", "Running")
    scene.cluster.ctl("delete", "pod", "unheard")


@pytest.mark.parametrize("what", ["desired", "objects"])
def test_messages_edited(scene: Scene, what: str) -> None:
    """Each bit of an index or an object is looked after: whichever is changed, it is not put in force."""
    rounds = 0

    def change(packet: Packet) -> Iterable[Packet] | None:
        nonlocal rounds
        if f"/{what}" not in packet.topic or not packet.payload:
            return None
        rounds += 1
        payload = bytearray(packet.payload)
        payload[rounds * 37 % len(payload)] ^= 1 << rounds % 8
        return [packet.with_payload(bytes(payload)), *(noise(packet, number) for number in range(20))]

    behaviour = Edited(change)
    scene.broker.behave(behaviour)
    scene.cluster.apply(sleeper("edited", NODE))
    wait_for(lambda: behaviour.rounds, 20, "something to be edited")
    refused = wait_for(
        lambda: scene.node.condition("DesiredStateInForce").get("status") == "False", 20, "it to be refused"
    )
    assert refused
    scene.unharmed()
    scene.broker.behave(Behaviour())
    scene.cluster.wait_phase("edited", "Running")
    scene.cluster.ctl("delete", "pod", "edited")


def noise(packet: Packet, number: int) -> Packet:
    """The same message cut short, made longer, or with some bytes changed."""
    payload = packet.payload
    at = number * len(payload) // 20
    changed = payload[:at] if number % 3 == 0 else payload[:at] + os.urandom(1 + number) + payload[at:]
    return packet.once().with_payload(changed)


def test_what_is_another_nodes_is_delivered(scene: Scene) -> None:
    """Its index under this node's name, its objects under the digests that this node asks for."""
    cluster = scene.cluster
    if OTHER not in cluster.nodes:
        cluster.add_node(OTHER)
    cluster.apply(sleeper("elsewhere", OTHER))
    theirs = wait_for(lambda: cluster.retained(f"nodes/{OTHER}/desired"), 10, "the other node's index")

    def change(packet: Packet) -> Iterable[Packet] | None:
        if packet.topic == DESIRED:
            return [packet.with_payload(theirs), publish(f"{PREFIX}nodes/{OTHER}/desired", theirs)]
        return [packet.with_payload(theirs)] if "/objects/" in packet.topic else None

    scene.broker.behave(Edited(change))
    wait_for(
        lambda: scene.node.condition("DesiredStateInForce").get("reason") == "WrongNode", 20, "WrongNode"
    )
    scene.unharmed()


def forged(generation: int, key: SigningKey) -> bytes:
    """An index that takes everything away, signed by somebody."""
    index = Index(
        cluster=CLUSTER, node=NODE, generation=generation, issued_at="2026-01-01T00:00:00Z", objects=[]
    )
    envelope = sign_envelope(INDEX_TYPE, encode_index(index), key.public.id, key)
    return encode_blob(encode_envelope(envelope), 200_000).payload


def floods() -> dict[str, bytes]:
    """Texts that are said over and over."""
    key = SigningKey.generate()
    chunks = [digest(bytes([number % 256, number // 256])) for number in range(4096)]
    listing = b'\x02{"chunks":["%b"]}' % '","'.join(chunks).encode()
    bomb = encode_blob(bytes(7_000_000), 100_000).payload
    return {
        "forged indexes": b"".join(publish(DESIRED, forged(n + 1000, key)).raw for n in range(50)),
        "lists of chunks": publish(DESIRED, listing).raw,
        "what expands": b"".join(publish(DESIRED, bomb).raw for _ in range(20)),
        "retained messages of no use": b"".join(
            publish(f"{PREFIX}objects/{digest(bytes([n]))}", os.urandom(2000)).raw for n in range(200)
        ),
        "requests": b"".join(
            publish(f"{PREFIX}nodes/{NODE}/rpc/logs", os.urandom(500), first=0x30).raw for _ in range(100)
        ),
        "requests of the largest size": publish(
            f"{PREFIX}nodes/{NODE}/rpc/{'x' * 60_000}", bytes(3_900_000), first=0x30
        ).raw,
        "answers": b"".join(publish(f"{PREFIX}replies/{NODE}/x", b"{}", first=0x30).raw for _ in range(500)),
        "topics of others": b"".join(publish(f"$SYS/{n}", bytes(100)).raw for n in range(500)),
        "QoS 2 that is never released": b"".join(
            b"\x34" + remaining(8 + 60_000) + b"\0\1t" + struct.pack("!H", n + 1) + b"\0" + bytes(60_002)
            for n in range(200)
        ),
        "QoS 1 beyond what may be under way": b"".join(
            b"\x32" + remaining(8) + b"\0\1t" + struct.pack("!H", n + 1) + b"\0xx" for n in range(2000)
        ),
        "pings": b"\xd0\x00" * 5000,
    }


FLOODS = floods()


@pytest.mark.parametrize("flood", FLOODS)
def test_floods(scene: Scene, flood: str) -> None:
    """As fast as the node takes it. Its pods are looked after all the while."""
    text = FLOODS[flood]
    behaviour = Saying([text], repeat=max(20, 60_000_000 // len(text)))
    scene.attack(behaviour, rounds=10)
    [kept] = scene.pods().values()
    wait_for(lambda: scene.node.read("/edge/v1/status"), 10, "the local API to answer")
    assert kept.pod == "kept"
    # The same in full before CONNACK, where there is nothing yet that a message could belong to.
    scene.attack(Saying([text], connack=b"", repeat=max(20, 60_000_000 // len(text))), rounds=1)
    scene.unharmed()


BAD = {
    "a length of five bytes": b"\x30\xff\xff\xff\xff\x7f",
    "a length beyond what is accepted": b"\x30\xff\xff\xff\x7f" + bytes(100),
    "a topic longer than the packet": b"\x30\x05\xff\xfftop",
    "a topic that is not UTF-8": publish(b"\xff\xfe\xfd", b"x").raw,
    "a topic with a null": publish(b"a\0b", b"x").raw,
    "an empty topic": publish(b"", b"x").raw,
    "wildcards in the topic": publish(f"{PREFIX}nodes/{NODE}/#", b"x").raw,
    "an unknown property": publish("t", b"x", properties=b"\xfe\0").raw,
    "properties longer than the packet": b"\x30\x05\0\1t\xff\x01",
    "a property twice": publish("t", b"x", properties=b"\x01\0\x01\0").raw,
    "a property that is none of PUBLISH": publish("t", b"x", properties=b"\x21\0\1").raw,
    "a text property that is not UTF-8": publish("t", b"x", properties=b"\x03\0\2\xff\xff").raw,
    "sixty thousand user properties": publish("t", b"x", properties=b"\x26\0\1a\0\1b" * 60_000).raw,
    "a user property of the largest size": publish(
        "t", b"x", properties=b"\x26\0\1a\xff\xff" + bytes(65_535)
    ).raw,
    "a topic alias that was never given": publish("", b"x", properties=b"\x23\0\5").raw,
    "QoS 3": publish("t", b"\0\1x", first=0x36).raw,
    "packet identifier 0": b"\x32\x06\0\1t\0\0\0",
    "PUBACK for nothing": b"\x40\x02\x12\x34",
    "PUBREC for nothing": b"\x50\x02\x12\x34",
    "PUBREL for nothing": b"\x62\x02\x12\x34",
    "PUBCOMP for nothing": b"\x70\x02\x12\x34",
    "PUBACK with an unknown reason": b"\x40\x03\0\1\x55",
    "SUBACK with an unknown reason": b"\x90\x04\0\1\0\x55",
    "SUBACK for nothing": b"\x90\x04\x7f\x7f\0\0",
    "SUBACK without reasons": b"\x90\x03\0\1\0",
    "a second CONNACK": CONNACK_5,
    "CONNECT": b"\x10\x0d\0\4MQTT\5\2\0\x3c\0\0\0",
    "SUBSCRIBE": b"\x82\x07\0\1\0\0\1t\0",
    "UNSUBSCRIBE": b"\xa2\x06\0\1\0\0\1t",
    "PINGREQ": b"\xc0\x00",
    "PINGRESP with a body": b"\xd0\x01\0",
    "DISCONNECT with an unknown reason": b"\xe0\x01\x42",
    "DISCONNECT with half a property": b"\xe0\x05\x8b\x03\x1f\0\x09",
    "AUTH": b"\xf0\x02\x18\0",
    "type 0": b"\x00\x00",
    "HTTP": b"HTTP/1.1 200 OK\r\n\r\n",
    "noise": bytes(range(255, 0, -1)) * 50,
}


def test_malformed_packets(scene: Scene) -> None:
    """One after another, each in a session that began as it should, some of them many times over."""
    behaviour = Saying(list(BAD.values()), repeat=3)
    quiet = Saying([b"\xd0\x00"])
    for name in BAD:
        text = BAD[name]
        one = Saying([text], repeat=3)
        scene.broker.behave(one)
        wait_for(lambda one=one: one.rounds >= 1, 60, name)  # type: ignore[misc]
        assert scene.node.process.running, name
    scene.unharmed()
    scene.attack(behaviour, rounds=1)
    scene.attack(quiet, rounds=1)


def test_the_wrong_answer_to_connect(scene: Scene) -> None:
    """Refusals, terms that nobody could keep, and what is no answer."""
    answers = [
        *(bytes([0x20, 3, 0, code, 0]) for code in (0x80, 0x84, 0x85, 0x86, 0x87, 0x97, 0x9C, 0x55, 0x01)),
        b"\x20\x03\x01\x00\x00",  # a session that was never kept
        b"\x20\x03\xff\x00\x00",
        b"\x20\x02\x00\x00",  # of MQTT 3.1.1
        b"\x20\x00",
        b"\x20\x06\0\0\x03\x21\0\0",  # Receive Maximum 0
        b"\x20\x08\0\0\x05\x27\0\0\0\0",  # Maximum Packet Size 0
        b"\x20\x08\0\0\x05\x27\0\0\0\x01",
        b"\x20\x06\0\0\x03\x13\0\0",  # Server Keep Alive 0
        b"\x20\x06\0\0\x03\x13\0\x01",
        b"\x20\x05\0\0\x02\x24\x00",  # Maximum QoS 0
        b"\x20\x05\0\0\x02\x25\x00",  # no retained messages
        b"\x20\x06\0\0\x03\x12\0\0",  # an empty client id
        b"\x20" + remaining(65_008) + b"\0\0" + remaining(65_003) + b"\x1f\xfd\xe8" + bytes(65_000),
        b"\x20" + remaining(3_500_000) + bytes(3_500_000),
        b"\xe0\x02\x8b\x00",
        b"\xf0\x02\x18\x00",
    ]  # fmt: skip
    for answer in answers:
        one = Saying([b""], connack=answer)
        scene.broker.behave(one)
        wait_for(lambda one=one: one.rounds >= 1, 60, answer[:8].hex())  # type: ignore[misc]
        assert scene.node.process.running
    scene.unharmed()


def test_a_broker_that_is_slow(scene: Scene) -> None:
    """A byte at a time, before the session has begun and in the middle of a message."""
    scene.attack(Saying([CONNACK_5 * 20], connack=b"", pace=0.1), rounds=25)
    dribbled = b"\x30" + remaining(3_000_000) + b"\0\1t\0" + bytes(200)
    scene.attack(Saying([dribbled], pace=0.02), rounds=100)
    # Its pods are looked after meanwhile.
    seen = scene.pods()["kept"]
    scene.podman.run("kill", "--signal", "KILL", seen.id)
    wait_for(lambda: scene.pods().get("kept", seen).id != seen.id, 20, "the container to be started again")
    scene.begin()


def test_a_broker_that_hangs_up(scene: Scene) -> None:
    """At once, and in the middle of everything."""

    class Hanging(Behaviour):
        async def serve(self, peer: object, upstream: object) -> None:
            self.rounds += 1

    scene.attack(Hanging(), rounds=20)
