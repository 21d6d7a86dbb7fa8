"""Each node's place on the pod network: the range that the hub gives it, and where it says that it is.

A node is believed of itself alone: an address or a key that another node has is refused, lest the traffic
of that one's pods be sent to it; and a key only where the node has signed it, for the broker is not
believed at all. May not know of pods, nor who is told.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import decode_json, validate
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec
from edgeagent.cluster.allocation import (
    Claims,
    ClusterNetwork,
    check_node_address,
    pod_ranges,
    same_address,
    same_key,
)
from edgeagent.cluster.certificates import pending
from edgeagent.cluster.store import Store, StoredObject, new_uid
from edgeagent.cluster.told import Problems
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.networkkey import NetworkKey, check_network_key


class Said(NamedTuple):
    """What a node says of itself: its address, its public key, and its proof of that; each empty for none."""

    address: str = ""
    public_key: str = ""
    proof: bytes = b""


class NodePlaces:
    """The NodeNetwork of every member. ``look`` follows a change of some."""

    def __init__(
        self,
        store: Store,
        cluster: str,
        network: ClusterNetwork,
        said: Callable[[str], Said],
        problems: Problems,
    ) -> None:
        """``said``: what a node says of itself."""
        self._store = store
        self._cluster = cluster
        self._network = network
        self._said = said
        self._problems = problems
        self._stored: dict[str, NodeNetwork] = {}
        self._members: set[str] = set()
        self._addresses = Claims()
        self._keys = Claims()
        self._waiting: set[str] = set()

    def get(self, node: str) -> NodeNetwork | None:
        """As nodes are told; None where it is no member, or no range is left for it."""
        return self._stored.get(node) if node in self._members else None

    def look_at_all(self) -> set[str]:
        """Read everything anew; the nodes that are members or were."""
        before = self._members
        self._stored = {
            stored.name: decode_json(stored.body, NodeNetwork) for stored in self._store.select("NodeNetwork")
        }
        self._members = {node.name for node in self._store.nodes()}
        self._addresses, self._keys, self._waiting = Claims(), Claims(), set()
        # Of two that have the same since a time when that was let pass, the one that had it longer keeps it.
        for own in sorted(self._stored.values(), key=lambda one: int(one.metadata.resource_version or 0)):
            if own.metadata.name in self._members:
                self._hold([own])
        return before | self.look(self._members) | self._members

    def look(self, nodes: Iterable[str]) -> set[str]:
        """Look at ``nodes`` and at those that wait for what others have; all that were looked at."""
        seen = set(nodes) | self._waiting
        new: dict[str, NodeNetwork] = {}
        for name in sorted(seen):
            if self._store.node(name) is None:
                self._leave(name)
                continue
            self._members.add(name)
            before = self._stored.get(name)
            own = before or self._placed(name, new.values())
            if own is not None and (own := self._of_cluster(own)) != before:
                new[name] = own
        self._keep(new.values())
        # What one gives up another may have been waiting for.
        while moved := dict(self._moved(seen)):
            self._keep(moved.values())
        return seen

    def _leave(self, name: str) -> None:
        """What it had is free; its range it finds again should it come back."""
        self._members.discard(name)
        self._waiting.discard(name)
        self._addresses.take({name: None})
        self._keys.take({name: None})

    def _placed(self, name: str, others: Iterable[NodeNetwork]) -> NodeNetwork | None:
        """With a range, as no other has; None where none is left."""
        taken = {text for one in (*self._stored.values(), *others) for text in one.spec.pod_cidrs}
        try:
            ranges = pod_ranges(self._network, taken)
        except PermanentError as error:
            self._problems.note(f"node {name}", f"it has no place on the pod network: {error}")
            return None
        self._problems.note(f"node {name}", "")
        meta = ObjectMeta(name=name, uid=new_uid())
        return NodeNetwork(api_version="edgeagent/v1", metadata=meta, spec=NodeNetworkSpec(pod_cidrs=ranges))

    def _of_cluster(self, own: NodeNetwork) -> NodeNetwork:
        """With what is the same for all nodes, as operators see it too."""
        network = self._network
        spec = msgspec.structs.replace(own.spec, service_cidrs=network.service_cidrs, overlay=network.overlay)
        return msgspec.structs.replace(own, spec=spec)

    def _moved(self, nodes: Iterable[str]) -> Iterator[tuple[str, NodeNetwork]]:
        """Those of ``nodes`` that say another thing of themselves than is stored, as far as it can be.

        What a node said last stands until it says another one: a hub that has not heard of it cuts no path.
        """
        addresses: dict[str, str] = {}
        keys: dict[str, str] = {}
        for name in sorted(nodes):
            if name not in self._members or (own := self._stored.get(name)) is None:
                continue
            address, key = self._usable(own)
            if address != own.spec.address:
                addresses[name] = address
            if key != own.spec.public_key:
                keys[name] = key
        without_address = self._addresses.refused({n: same_address(text) for n, text in addresses.items()})
        without_key = self._keys.refused({n: same_key(text) for n, text in keys.items()})
        for name in nodes:
            self._refuse(name, "address", addresses.get(name, ""), without_address.get(name, ""))
            self._refuse(name, "public key", keys.get(name, ""), without_key.get(name, ""))
        self._waiting -= set(nodes)
        self._waiting |= without_address.keys() | without_key.keys()
        for name in addresses.keys() | keys.keys():
            own = self._stored[name]
            spec = msgspec.structs.replace(
                own.spec,
                address=own.spec.address
                if name in without_address
                else addresses.get(name, own.spec.address),
                public_key=own.spec.public_key
                if name in without_key
                else keys.get(name, own.spec.public_key),
            )
            if spec != own.spec:
                yield name, msgspec.structs.replace(own, spec=spec)

    def _refuse(self, name: str, what: str, thing: str, owner: str) -> None:
        problem = f"it says that this is {thing[:80]}, which is that of node {owner}: give it another one"
        self._problems.note(f"{what} of node {name}", problem if owner else "")

    def _usable(self, own: NodeNetwork) -> tuple[str, str]:
        """The address and the key that the node says it has; those that it had where that is nonsense."""
        name, spec = own.metadata.name, own.spec
        said_address, said_key, proof = self._said(name)
        address, key = said_address or spec.address, said_key or spec.public_key
        problem = ""
        if (address, key) != (spec.address, spec.public_key):
            try:
                said = msgspec.structs.replace(spec, address=address, public_key=key)
                validate(msgspec.structs.replace(own, spec=said))
                if address and address != spec.address:
                    check_node_address(address, self._network)
            except InvalidObjectError as error:
                problem = f"nodes are not told what it says of itself: {error}"
                address, key = spec.address, spec.public_key
        self._problems.note(f"NodeNetwork /{name}", problem)
        unproven = self._unproven(name, key, proof) if key != spec.public_key else ""
        self._problems.note(f"proof of the public key of node {name}", unproven)
        return address, spec.public_key if unproven else key

    def _unproven(self, name: str, key: str, proof: bytes) -> str:
        """Why the node has not shown that the key is its own; empty where it has."""
        node = self._store.node(name)
        # A certificate just given may be in use already, though nothing signed with its key came in yet.
        known = [one.public_key for one in pending(self._store, name)]
        known += [node.public_key] if node is not None else []
        expected = NetworkKey(cluster=self._cluster, node=name, public_key=key)
        try:
            check_network_key(proof, expected, known)
        except EdgeAgentError as error:
            return f"nodes are not told the key {key}, which need not be its own: {error}"
        return ""

    def _hold(self, nodes: Iterable[NodeNetwork]) -> None:
        specs = {own.metadata.name: own.spec for own in nodes}
        self._addresses.take({n: same_address(s.address) if s.address else None for n, s in specs.items()})
        self._keys.take({n: same_key(s.public_key) if s.public_key else None for n, s in specs.items()})

    def _keep(self, nodes: Iterable[NodeNetwork]) -> None:
        """As they are stored from here on."""
        kept: dict[str, NodeNetwork] = {}
        if not (nodes := list(nodes)):
            return
        with self._store.transaction():
            for own in nodes:
                version = self._store.next_version()
                meta = msgspec.structs.replace(own.metadata, resource_version=str(version))
                kept[meta.name] = msgspec.structs.replace(own, metadata=meta)
                self._store.put(
                    StoredObject(
                        kind="NodeNetwork",
                        namespace="",
                        name=meta.name,
                        uid=meta.uid,
                        version=version,
                        node="",
                        deleting="",
                        body=canonical_json(kept[meta.name]),
                    )
                )
        self._stored |= kept
        self._hold(kept.values())
