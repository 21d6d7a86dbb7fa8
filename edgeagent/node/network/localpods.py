"""The pods of this node that have addresses, as the network plugin is told of them."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from edgeagent.api.network import HostPort, NamedPort, NetworkPod
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.store.pods import PodOnNetwork, PodRecord


class Remembered(msgspec.Struct, frozen=True):
    """A pod that is desired no longer, and of which something runs still.

    ``deleted`` is False where nobody can say that it was: its object cannot be read, or no index was ever
    accepted.
    """

    record: PodRecord
    deleted: bool


class LocalPod(msgspec.Struct, frozen=True):
    """What is told of a pod, and the names that it wants to have in DNS."""

    told: NetworkPod
    hostname: str = ""
    subdomain: str = ""


class LocalPods:
    """Remembers what it told: a pod that did not change is the very same object again."""

    def __init__(self) -> None:
        self._known: dict[str, LocalPod] = {}

    def look(
        self,
        pods: Iterable[tuple[Pod, PodStatus]],
        attached: Mapping[str, list[str]],
        remembered: Iterable[Remembered] = (),
    ) -> list[LocalPod]:
        """All that have an address and have not ended. ``attached``: addresses by uid, as just given.

        Those of ``remembered`` are as ready as they were last, and terminating once they are known to be
        deleted: policies apply to them until they are gone.
        """
        found: dict[str, LocalPod] = {}
        for pod, status in pods:
            if status.phase in ("Succeeded", "Failed"):
                continue
            meta, network = pod.metadata, pod_on_network(pod, status)
            if ips := network.ips if pod.spec.host_network else attached.get(meta.uid, []):
                found[meta.uid] = _local(
                    network,
                    uid=meta.uid,
                    namespace=meta.namespace,
                    name=meta.name,
                    ips=ips,
                    host_network=pod.spec.host_network,
                    terminating=bool(meta.deletion_timestamp),
                )
        for one in remembered:
            record, known = one.record, one.record.network
            if record.phase or known is None or record.uid in found:
                continue
            if ips := known.ips if record.host_network else attached.get(record.uid, []):
                found[record.uid] = _local(
                    known,
                    uid=record.uid,
                    namespace=record.namespace,
                    name=record.name,
                    ips=ips,
                    host_network=record.host_network,
                    terminating=one.deleted,
                )
        for uid, old in self._known.items():
            if uid in found and found[uid] == old:
                found[uid] = old
        self._known = found
        return list(found.values())


def _local(
    network: PodOnNetwork,
    *,
    uid: str,
    namespace: str,
    name: str,
    ips: list[str],
    host_network: bool,
    terminating: bool,
) -> LocalPod:
    told = NetworkPod(
        uid=uid,
        namespace=namespace,
        name=name,
        ips=ips,
        labels=network.labels,
        host_network=host_network,
        ready=network.ready,
        terminating=terminating,
        host_ports=network.host_ports,
        named_ports=network.named_ports,
    )
    return LocalPod(told, network.hostname, network.subdomain)


def pod_on_network(pod: Pod, status: PodStatus) -> PodOnNetwork:
    """What policies and Services go by."""
    spec = pod.spec
    return PodOnNetwork(
        labels=pod.metadata.labels,
        hostname=spec.hostname,
        subdomain=spec.subdomain,
        ips=[one.ip for one in status.pod_ips] if spec.host_network else [],
        ready=is_ready(status),
        host_ports=[] if spec.host_network else list(_host_ports(pod)),
        named_ports=list(_named_ports(pod)),
    )


def is_ready(status: PodStatus) -> bool:
    """Whether the condition ``Ready`` holds."""
    return any(one.type == "Ready" and one.status == "True" for one in status.conditions)


def _host_ports(pod: Pod) -> Iterator[HostPort]:
    for container in pod.spec.containers:
        for port in container.ports:
            if port.host_port:
                yield HostPort(
                    host_port=port.host_port,
                    container_port=port.container_port,
                    protocol=port.protocol,
                    host_ip=port.host_ip,
                )


def _named_ports(pod: Pod) -> Iterator[NamedPort]:
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        for port in container.ports:
            if port.name:
                yield NamedPort(name=port.name, port=port.container_port, protocol=port.protocol)
