"""The pods of this node that have addresses, as the network plugin is told of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from edgeagent.api.network import HostPort, NamedPort, NetworkPod
from edgeagent.api.objects.pod import Pod, PodStatus


@dataclass(frozen=True, slots=True)
class LocalPod:
    """A pod, and what is told of it."""

    pod: Pod
    told: NetworkPod


class LocalPods:
    """Remembers what it told: a pod that did not change is the very same object again."""

    def __init__(self) -> None:
        self._known: dict[str, LocalPod] = {}

    def look(
        self, pods: Iterable[tuple[Pod, PodStatus]], attached: Mapping[str, list[str]]
    ) -> list[LocalPod]:
        """All that have an address and have not ended. ``attached``: addresses by uid, as just given.

        A pod that is attached and no longer among ``pods`` was deleted: it is terminating, for its containers
        run until it is detached, and as ready as it was last.
        """
        found: dict[str, LocalPod] = {}
        named: set[str] = set()
        for pod, status in pods:
            uid = pod.metadata.uid
            named.add(uid)
            if status.phase in ("Succeeded", "Failed"):
                continue
            ips = [one.ip for one in status.pod_ips] if pod.spec.host_network else attached.get(uid, [])
            if not ips:
                continue
            old = self._known.get(uid)
            told = _told(pod, status, ips)
            same = old is not None and old.pod is pod and old.told == told
            found[uid] = old if same and old is not None else LocalPod(pod, told)
        for uid in self._known.keys() & (attached.keys() - named):
            found[uid] = _deleted(self._known[uid])
        self._known = found
        return list(found.values())


def _deleted(local: LocalPod) -> LocalPod:
    if local.told.terminating:
        return local
    return LocalPod(local.pod, msgspec.structs.replace(local.told, terminating=True))


def _told(pod: Pod, status: PodStatus, ips: list[str]) -> NetworkPod:
    meta = pod.metadata
    return NetworkPod(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        ips=ips,
        labels=meta.labels,
        host_network=pod.spec.host_network,
        ready=is_ready(status),
        terminating=bool(meta.deletion_timestamp),
        host_ports=[] if pod.spec.host_network else list(_host_ports(pod)),
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
