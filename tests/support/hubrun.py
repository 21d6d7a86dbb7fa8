"""A hub with the broker that its own ``init`` configured, and MQTT clients with its own certificates."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import msgspec

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.rbac import RoleName
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.calls import AUTHORITY_KINDS
from edgeagent.cluster.hub import Hub
from edgeagent.cluster.init import init
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.nodes import add_node
from edgeagent.cluster.operators import add_operator
from edgeagent.wire.authority import HUB_TARGET
from edgeagent.wire.blob import ChunkList, decode_blob, join_chunks
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope
from edgeagent.wire.index import MAX_INDEX_BYTES, Index, check_object, decode_index
from edgeagent.wire.join import BrokerAddress, JoinFile, OperatorFile
from edgeagent.wire.networkkey import NetworkKey, encode_network_key
from edgeagent.wire.operatorcalls import OperatorSigner
from edgeagent.wire.reports import PodReport, Presence
from edgeagent.wire.rpc import Reply, RpcError, decode_reply
from edgeagent.wire.session import Message, MqttSession, SessionConfig
from edgeagent.wire.tls import client_context
from edgeagent.wire.topics import Topics
from edgeagent.wire.trust import verify
from tests.support.broker import MOSQUITTO
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for_async

CLUSTER = "plant"


class HubDirectory:
    """What ``edgehub init`` made, with its broker as a process."""

    def __init__(self, directory: Path, *, network: ClusterNetwork | None = None) -> None:
        self.port = free_port()
        self.address = BrokerAddress(host="127.0.0.1", port=self.port)
        self.enrol_address = BrokerAddress(host="127.0.0.1", port=free_port())
        self.files: HubFiles = init(
            directory / "hub",
            CLUSTER,
            [self.address],
            listen=self.address,
            enrol_listen=self.enrol_address,
            network=network,
            clock=SystemClock(),
        )
        self.topics = Topics(CLUSTER)
        self.keys = directory / "keys"
        self.keys.mkdir()
        self.joins: dict[str, JoinFile] = {}
        self.operators: dict[str, OperatorFile] = {}
        self.broker = Process(
            [MOSQUITTO, "-c", str(self.files.mosquitto_config)], log=directory / "mosquitto.log"
        )

    def __enter__(self) -> Self:
        self.start_broker()
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.terminate()

    def start_broker(self) -> None:
        """Start it and wait until it accepts connections."""
        self.broker.start()
        self.broker.wait_until(lambda: port_answers(self.port), what="accepting connections")

    def configure(self, **options: str) -> None:
        """Change the broker's configuration before it starts: options of the same name are replaced."""
        path = self.files.mosquitto_config
        lines = [line for line in path.read_text().splitlines() if line.split(" ")[0] not in options]
        path.write_text("\n".join([*lines, *(f"{key} {value}" for key, value in options.items())]) + "\n")

    def lose_retained(self) -> None:
        """Stop the broker, take away all it kept, and start it again."""
        self.broker.kill()
        for path in self.files.mosquitto_data.iterdir():
            path.unlink()
        self.start_broker()

    def add_node(self, name: str, *, replace: bool = False) -> JoinFile:
        """Make a node a member."""
        join = add_node(self.files, name, SystemClock(), output=None, replace=replace)
        self.joins[name] = join
        return join

    def add_operator(self, name: str, role: RoleName, *namespaces: str) -> OperatorFile:
        """Make ``user:<name>`` an operator with a role in some namespaces, or in all."""
        made = add_operator(self.files, name, role, SystemClock(), namespaces=namespaces)
        self.operators[made.user] = made
        return made

    @contextlib.asynccontextmanager
    async def hub(self, **options: Any) -> AsyncIterator[Hub]:
        """A running hub that has published all it wants; any error of its own fails the test."""
        hub = Hub(self.files.root, reconnect_first=0.05, **options)
        task = asyncio.create_task(hub.run())
        try:
            await wait_for_async(lambda: task.done() or hub.settled, what="the hub has published everything")
            yield hub
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    def peer(self, name: str, *, client_id: str = "") -> "Peer":
        """A client with the certificate of ``hub``, of a node, or of an operator such as ``user:admin``."""
        signer = None
        if name == "hub":
            ca, certificate, key = (
                path.read_text()
                for path in (self.files.ca_certificate, self.files.hub_certificate, self.files.hub_key)
            )
        elif name.startswith("user:"):
            operator = self.operators.get(name) or msgspec.json.decode(
                self.files.operator.read_bytes(), type=OperatorFile
            )
            assert operator.user == name
            ca, certificate, key = operator.ca, operator.certificate, operator.private_key
            signer = OperatorSigner(CLUSTER, name, certificate, key)
        else:
            join = self.joins[name]
            ca, certificate, key = join.ca, join.certificate, join.private_key
        folder = self.keys / secrets.token_hex(4)
        folder.mkdir()
        for file, text in (("ca", ca), ("crt", certificate), ("key", key)):
            (folder / file).write_text(text)
        return Peer(self, name, folder, client_id or f"test-{secrets.token_hex(4)}", signer)


class Peer:
    """One MQTT client: keeps what it receives, and calls the hub."""

    def __init__(
        self,
        directory: HubDirectory,
        name: str,
        keys: Path,
        client_id: str,
        signer: OperatorSigner | None = None,
    ) -> None:
        self.name = name
        self.signer = signer
        self.topics = directory.topics
        self._directory = directory
        self.messages: list[Message] = []
        self.retained: dict[str, bytes] = {}
        self.lost: list[str] = []
        """Why there was no connection, each time."""
        self._replies = self.topics.replies(name, secrets.token_hex(4))
        self._connected = asyncio.Event()
        self.session = MqttSession(
            SessionConfig(
                [directory.address],
                client_id,
                client_context(keys / "ca", keys / "crt", keys / "key"),
                reconnect_first=0.05,
                reconnect_ceiling=0.2,
            ),
            clock=SystemClock(),
            rng=random.Random(1),
            on_message=self._receive,
            on_connect=lambda _: self._connected.set(),
            on_disconnect=self.lost.append,
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.session.run())
        async with asyncio.timeout(10):
            await self._connected.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    def _receive(self, message: Message) -> None:
        self.messages.append(message)
        self.retained[message.topic] = message.payload

    async def read(self, topic: str, *, absent: bool = False) -> bytes:
        """The retained message of a topic, as it is on the broker now; empty for none if ``absent``."""
        return (await self.read_all([topic], absent=absent))[0]

    async def read_all(self, topics: list[str], *, absent: bool = False) -> list[bytes]:
        """``read`` for several at once."""
        for topic in topics:
            self.retained.pop(topic, None)
        await self.session.subscribe(topics)
        await self.barrier()
        await self.session.unsubscribe(topics)
        missing = [topic for topic in topics if not self.retained.get(topic)]
        assert absent or not missing, f"nothing is retained on {missing}"
        return [self.retained.get(topic, b"") for topic in topics]

    async def barrier(self) -> None:
        """Return once everything that the broker had for this client has come."""
        topic = self.topics.replies(self.name, f"barrier-{secrets.token_hex(4)}")
        await self.session.subscribe([topic])
        await self.session.publish(topic, b"here")
        await wait_for_async(lambda: topic in self.retained, what="the barrier")
        await self.session.unsubscribe([topic])

    # As an operator

    def signed(
        self, method: str, params: object, *, target: str = HUB_TARGET, reply_topic: str = ""
    ) -> bytes:
        """A call as this operator signs it."""
        assert self.signer is not None, f"{self.name} is no operator"
        return self.signer.sign(
            target, method, canonical_json(params), now=SystemClock().now(),
            reply_topic=reply_topic or self._replies,
        )  # fmt: skip

    async def send(
        self,
        method: str,
        params: object,
        *,
        target: str = HUB_TARGET,
        reply_topic: str = "",
        correlation: bytes = b"",
    ) -> None:
        """Send a call whose answers somebody else waits for."""
        topic = reply_topic or self._replies
        await self.session.publish(
            self.topics.hub_rpc(self.name, method),
            self.signed(method, params, target=target, reply_topic=topic),
            response_topic=topic,
            correlation=correlation,
        )

    async def stream(
        self,
        method: str,
        params: object,
        *,
        target: str = HUB_TARGET,
        reply_topic: str = "",
        correlation: bytes = b"",
    ) -> AsyncIterator[Reply]:
        """The answers to a call, the last one included; RpcError for a failure."""
        mark = correlation or secrets.token_bytes(8)
        topic = reply_topic or self._replies
        await self.session.subscribe([topic])
        await self.send(method, params, target=target, reply_topic=topic, correlation=mark)
        taken: list[Reply] = []

        def answers() -> list[Message]:
            return [m for m in self.messages if m.topic == topic and m.correlation == mark]

        while not taken or not taken[-1].last:
            await wait_for_async(lambda: len(answers()) > len(taken), what=f"an answer to {method}")
            reply = decode_reply(answers()[len(taken)].payload)
            assert reply.sequence == len(taken)
            taken.append(reply)
            yield reply

    async def call(self, method: str, params: object, *, target: str = HUB_TARGET) -> Any:
        """The result of a call, of all its answers joined."""
        joined: Any = None
        async for reply in self.stream(method, params, target=target):
            result = msgspec.json.decode(reply.result)
            if joined is None or method != "get":
                joined = result
            else:
                joined["items"] += result["items"]
        return joined

    async def failure(self, method: str, params: object, *, target: str = HUB_TARGET) -> RpcError:
        """The failure of a call that must fail."""
        try:
            result = await self.call(method, params, target=target)
        except RpcError as error:
            return error
        raise AssertionError(f"{method} succeeded: {result}")

    async def apply(self, *objects: object, dry_run: bool = False) -> list[str]:
        """Apply; what became of each."""
        result = await self.call("apply", {"objects": list(objects), "dryRun": dry_run})
        return [one["action"] for one in result["applied"]]

    async def get(self, kind: str, name: str = "", namespace: str = "", **more: Any) -> Any:
        """One object by name, or all of a kind."""
        found = await self.call("get", {"kind": kind, "name": name, "namespace": namespace, **more})
        return found["items"][0] if name else found["items"]

    # As a node

    def network_key(self, public_key: str) -> bytes:
        """The proof that this WireGuard key is the node's."""
        said = NetworkKey(cluster=CLUSTER, node=self.name, public_key=public_key)
        return encode_network_key(said, PrivateKey(self._directory.joins[self.name].private_key))

    async def report(self, topic: str, value: object) -> None:
        """Publish something retained, as a node does."""
        await self.session.publish(topic, b"" if value is None else canonical_json(value), retain=True)

    async def online(self, session: int = 1, *, online: bool = True) -> None:
        """Presence."""
        await self.report(self.topics.online(self.name), Presence(online=online, session=session))

    async def pod(self, name: str, report: PodReport | None, namespace: str = "default") -> None:
        """A pod's status, or None once nothing is left of it."""
        await self.report(self.topics.pod(self.name, namespace, name), report)

    async def index(self, node: str = "", *, all_of_it: bool = False) -> Index:
        """The index on the broker, authentic to the node's own pinned key.

        Without what every node is told of operators and CAs, unless ``all_of_it``.
        """
        node = node or self.name
        payload = await self.read(self.topics.desired(node))
        body = decode_blob(payload, MAX_INDEX_BYTES)
        if isinstance(body, ChunkList):
            body = await self._join(body, MAX_INDEX_BYTES)
        envelope = decode_envelope(body, INDEX_TYPE)
        verify(envelope, self._directory.joins[node].trust)
        index = decode_index(envelope.payload, cluster=CLUSTER, node=node)
        if all_of_it:
            return index
        kept = [entry for entry in index.objects if entry.kind not in AUTHORITY_KINDS]
        return msgspec.structs.replace(index, objects=kept)

    async def _join(self, listing: ChunkList, size: int) -> bytes:
        chunks = {}
        for name in listing.chunks:
            data = decode_blob(await self.read(self.topics.object(name)), size)
            assert isinstance(data, bytes)
            chunks[name] = data
        return join_chunks(listing, chunks, size)

    async def objects(self) -> dict[str, KubernetesObject]:
        """What the index names, fetched and checked, by kind/namespace/name."""
        found = {}
        index = await self.index()
        payloads = await self.read_all([self.topics.object(entry.digest) for entry in index.objects])
        for entry, payload in zip(index.objects, payloads, strict=True):
            body = decode_blob(payload, entry.size)
            if isinstance(body, ChunkList):
                body = await self._join(body, entry.size)
            found[f"{entry.kind}/{entry.namespace}/{entry.name}"] = check_object(entry, body)
        return found

    async def generation(self, at_least: int) -> Index:
        """The index, once its generation is high enough."""
        last: list[Index] = []

        async def reached() -> bool:
            if await self.read(self.topics.desired(self.name), absent=True):
                last[:] = [await self.index()]
            return bool(last) and last[0].generation >= at_least

        await wait_for_async(reached, what=f"generation {at_least}")
        return last[0]


class Counter:
    """Counts publications on topics, as the broker passes them on to a client that may read all."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._start = 0

    async def start(self) -> None:
        """Count from here on: what is retained now does not count."""
        await self._peer.session.subscribe([f"{self._peer.topics.prefix}#"])
        await self._peer.barrier()
        self._start = len(self._peer.messages)

    async def topics(self) -> list[str]:
        """What was published since, without the barriers and calls."""
        await self._peer.barrier()
        return [
            message.topic
            for message in self._peer.messages[self._start :]
            if self._peer.topics.levels(message.topic)[0] in ("nodes", "objects")
        ]


def pod(name: str, node: str, namespace: str = "default", **spec: object) -> dict[str, Any]:
    """A Pod manifest of one container."""
    container: dict[str, object] = {"name": "main", "image": "localhost/busybox:1"}
    for key in ("env", "envFrom"):
        if key in spec:
            container[key] = spec.pop(key)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [container], **spec},
    }


def config_map(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    """A ConfigMap manifest."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def secret(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    """A Secret manifest with stringData."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }


def takes_from(*, config_maps: list[str] | None = None, secrets_: list[str] | None = None) -> dict[str, Any]:
    """An ``envFrom`` for ``pod``."""
    sources = [{"configMapRef": {"name": n}} for n in config_maps or []]
    sources += [{"secretRef": {"name": n}} for n in secrets_ or []]
    return {"envFrom": sources}
