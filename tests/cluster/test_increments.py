"""What nodes are told of the network, followed change by change, is what a hub finds that begins anew."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.base import Condition, ObjectMeta
from edgeagent.api.objects.decode import KubernetesObject, decode_object
from edgeagent.api.objects.node import NodeAddress, NodeStatus
from edgeagent.api.objects.pod import Pod, PodIP, PodStatus
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.networking import GONE_SECONDS, RETRY_SECONDS, Networking
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.store import Store, StoredNode, StoredObject
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.networkkey import NetworkKey, encode_network_key
from edgeagent.wire.reports import ANNOTATION_MIRROR, PodReport, Presence

NODES = ("n1", "n2", "n3")
PHASES: tuple[Literal["Running", "Failed"], ...] = ("Running", "Failed")
TLS = PrivateKey.generate()
KEYS = ("a" * 43 + "=", "b" * 43 + "=")


class World:
    """A hub's store and observer, and what follows their changes."""

    def __init__(self, directory: Path, network: ClusterNetwork | None) -> None:
        self.clock = ManualClock()
        self.network = network
        self.store = Store(directory / "hub.db", create=True)
        self.observer = Observer(
            self.store, self.clock, on_change=self._changed, on_gone=lambda *_: None, on_node=lambda _: None
        )
        self.networking = self.anew()
        self.uids = 0

    def anew(self) -> Networking:
        """What begins with what is there."""
        return Networking(
            self.store, self.observer, "plant", self.network, clock=self.clock, wake_all=lambda: None
        )

    def _changed(self, kind: str, namespace: str, name: str) -> None:
        self.networking.changed(kind, namespace, name)

    def add_node(self, name: str) -> None:
        """A member, as `edgehub node add` makes it."""
        if self.store.node(name) is None:
            with self.store.transaction():
                self.store.put_node(StoredNode(name, f"uid-{name}", "", b"k", "1", 0, public_key=TLS.public))
        self.networking.members_changed()

    def put(self, manifest: dict[str, Any], *, recreate: bool = False) -> None:
        """Applied."""
        meta = {"namespace": "default", **manifest["metadata"]}
        found = decode_object({**manifest, "metadata": meta})
        kind, namespace, name = type(found).__name__, meta["namespace"], meta["name"]
        before = self.store.find(kind, namespace, name)
        if before is not None and (
            recreate or (isinstance(found, Pod) and before.node != found.spec.node_name)
        ):
            self.remove(kind, name)
            before = None
        self.uids += 1
        uid = before.uid if before else f"uid-{self.uids}"
        with self.store.transaction():
            version = self.store.next_version()
            own = msgspec.structs.replace(found.metadata, uid=uid, resource_version=str(version))
            stored: KubernetesObject = msgspec.structs.replace(found, metadata=own)
            node = found.spec.node_name if isinstance(found, Pod) else ""
            body = canonical_json(stored)
            self.store.put(StoredObject(kind, namespace, name, uid, version, node, "", body))
        self._changed(kind, namespace, name)

    def remove(self, kind: str, name: str) -> None:
        """Deleted."""
        stored = self.store.find(kind, "default", name)
        if stored is not None:
            with self.store.transaction():
                self.store.remove(stored.uid)
            self._changed(kind, "default", name)

    def report(self, node: str, name: str, status: PodStatus | None, *, static: bool = False) -> None:
        """What a node says of a pod: of its own static one, or of one that the hub gave it."""
        pod: Pod | None = None
        uid = "static"
        if static:
            name = f"{name}-{node}"
            meta = ObjectMeta(
                name=name,
                namespace="default",
                uid=uid,
                labels={"app": "a"},
                annotations={ANNOTATION_MIRROR: uid},
            )
            read = decode_object(pod_manifest(name, node))
            assert isinstance(read, Pod)
            pod = msgspec.structs.replace(read, metadata=meta)
        elif (stored := self.store.find("Pod", "default", name)) is not None:
            uid = stored.uid
        said = None if status is None else PodReport(uid=uid, generation=1, status=status, pod=pod)
        self.observer.receive(node, ["pods", "default", name], canonical_json(said) if said else b"")

    def online(self, node: str, online: bool) -> None:
        """What the broker says of a node."""
        self.observer.receive(node, ["online"], canonical_json(Presence(online=online, session=1)))

    def says(self, node: str, address: str, key: str) -> None:
        """What a node says of itself."""
        said = NetworkKey(cluster="plant", node=node, public_key=key)
        status = NodeStatus(
            addresses=[NodeAddress(type="InternalIP", address=address)],
            public_key=key,
            public_key_proof=encode_network_key(said, TLS) if key else b"",
        )
        self.observer.receive(node, ["status"], canonical_json(status))


def pod_manifest(name: str, node: str, *, host: bool = False, **labels: str) -> dict[str, Any]:
    """A pod of one container with a named port."""
    container = {"name": "m", "image": "x", "ports": [{"name": "http", "containerPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [container], "hostNetwork": host},
    }


def service_manifest(name: str, port: int | str, **selector: str) -> dict[str, Any]:
    """A Service, with a selector where there is one."""
    ports = [{"port": 80, "targetPort": port}]
    spec: dict[str, Any] = {"clusterIP": "10.43.0.9", "ports": ports}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {**spec, "selector": selector} if selector else spec,
    }


POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}

names = st.sampled_from(["p", "q", "r"])
nodes = st.sampled_from(NODES)
apps = st.sampled_from(["a", "b"])
statuses = st.builds(
    lambda ready, phase, ip: PodStatus(
        phase=phase,
        conditions=[Condition(type="Ready", status=str(ready))],
        pod_ips=[PodIP(ip=ip)] if ip else [],
    ),
    st.booleans(),
    st.sampled_from(PHASES),
    st.sampled_from(["", "10.42.0.2", "10.42.1.2", "10.42.2.2", "192.0.2.1", "192.0.2.2", "nonsense"]),
)
CALLS: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
    "pod": st.tuples(names, nodes, apps, st.booleans(), st.booleans()),
    "report": st.tuples(nodes, names, st.none() | statuses),
    "static": st.tuples(nodes, names, st.none() | statuses),
    "service": st.tuples(names, st.sampled_from([8080, "http"]), st.none() | apps),
    "policy": st.tuples(),
    "remove": st.sampled_from([("Pod", "p"), ("Pod", "q"), ("Service", "p"), ("NetworkPolicy", "deny")]),
    "online": st.tuples(nodes, st.booleans()),
    "absence": st.tuples(nodes),
    "says": st.tuples(
        nodes, st.sampled_from(["192.0.2.1", "192.0.2.2", "10.42.0.9"]), st.sampled_from(["", *KEYS])
    ),
    "add": st.tuples(nodes),
    "look": st.tuples(),
    "wait": st.tuples(st.sampled_from([1.0, GONE_SECONDS / 2, GONE_SECONDS])),
}
steps = st.one_of([st.tuples(st.just(name), arguments) for name, arguments in CALLS.items()])


def do(world: World, step: str, arguments: tuple[Any, ...]) -> None:
    """One step."""
    match step, arguments:
        case "pod", (name, node, app, host, recreate):
            world.put(pod_manifest(name, node, host=host, app=app), recreate=recreate)
        case "report", (node, name, status):
            world.report(node, name, status)
        case "static", (node, name, status):
            world.report(node, name, status, static=True)
        case "service", (name, port, app):
            world.put(service_manifest(name, port, **({"app": app} if app else {})))
        case "policy", ():
            world.put(POLICY)
        case "remove", (kind, name):
            world.remove(kind, name)
        case "online", (node, online):
            world.online(node, online)
        case "absence", (node,):
            world.online(node, False)
            world.networking.look()
            asyncio.run(world.clock.advance(GONE_SECONDS))
            world.networking.look()
            world.online(node, True)
        case "says", (node, address, key):
            world.says(node, address, key)
        case "add", (node,):
            world.add_node(node)
        case "look", ():
            world.networking.look()
        case "wait", (seconds,):
            world.networking.look()
            asyncio.run(world.clock.advance(seconds))
        case _:
            raise AssertionError(step)


def begin(world: World) -> None:
    """Something of everything, so that most steps change something."""
    world.put(service_manifest("p", "http", app="a"))
    world.put(POLICY)
    for number, (node, name) in enumerate([("n1", "p"), ("n2", "q")]):
        world.add_node(node)
        world.online(node, True)
        world.put(pod_manifest(name, node, host=name == "q", app="a"))
        address = f"10.42.{number}.2" if name == "p" else "192.0.2.1"
        ready = [Condition(type="Ready", status="True")]
        world.report(node, name, PodStatus(phase="Running", conditions=ready, pod_ips=[PodIP(ip=address)]))
    world.put(pod_manifest("r", "n3", app="a"))


def told(networking: Networking) -> dict[str, dict[str, Any]]:
    """What each node is told, by uid."""
    networking.look()
    return {node: {one.entry.uid: one for one in networking.for_node(node)} for node in NODES}


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.lists(steps, min_size=5, max_size=40))
def test_change_by_change_is_as_a_whole(given_out: bool, taken: list[tuple[str, tuple[Any, ...]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        network = ClusterNetwork(pod_cidrs=["10.42.0.0/22"]) if given_out else None
        world = World(Path(directory), network)
        try:
            begin(world)
            told(world.networking)
            for step, arguments in taken:
                do(world, step, arguments)
            found = told(world.networking)
            world.networking.look_again()
            whole = told(world.networking)
            assert found == whole
            # Nothing of it was encoded again.
            assert all(one is whole[node][uid] for node in NODES for uid, one in found[node].items())
            # Whoever begins anew gives each node that is offline its time once more.
            other = world.anew()
            other.look()
            asyncio.run(world.clock.advance(GONE_SECONDS))
            assert told(world.networking) == told(other)
            world.networking.look_again()
            assert told(world.networking) == told(other)
        finally:
            world.store.close()


def test_a_look_that_fails_leaves_what_is_told_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        world = World(tmp_path, ClusterNetwork())
        begin(world)
        before = told(world.networking)
        following = asyncio.create_task(world.networking.run())
        await world.clock.advance(1)
        with monkeypatch.context() as broken:

            def fail(*_: object) -> None:
                raise TemporaryError("the disk is full")

            broken.setattr(Store, "select", fail)
            world.networking.look_again()
            await world.clock.advance(3 * RETRY_SECONDS)
            assert {n: {w.entry.uid: w for w in world.networking.for_node(n)} for n in NODES} == before
            assert caplog.text.count("it stays as it is: the disk is full") == 1
        world.report("n1", "p", None)
        world.remove("Pod", "p")
        await world.clock.advance(RETRY_SECONDS + 1)
        world.networking.look_again()
        found = {n: {w.entry.uid: w for w in world.networking.for_node(n)} for n in NODES}
        assert found != before
        assert found == told(world.networking)
        following.cancel()
        await asyncio.wait([following])
        world.store.close()

    asyncio.run(run())
