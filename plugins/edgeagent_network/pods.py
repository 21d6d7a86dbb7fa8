"""What this node's pods themselves bring into the table: who they are, and that they are nobody else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import collapse_addresses, ip_address, ip_network

from edgeagent.api.network import NetworkState, Problem
from edgeagent_network import vxlan, wireguard
from edgeagent_network.ruleset import Chain, Fragment
from edgeagent_network.sandbox import link_name
from edgeagent_network.serviceplan import given_ranges

_FRAME = Fragment(
    sets={
        "pod_links": "type ifname;",
        # ``LINK . ADDRESS``: what a pod may send from.
        "pod_sources4": "type ifname . ipv4_addr;",
        "pod_sources6": "type ifname . ipv6_addr;",
        # Ranges of pods that no packet comes from but by the links that lead to them.
        "guarded4": "type ipv4_addr; flags interval;",
        "guarded6": "type ipv6_addr; flags interval;",
    },
    chains={
        # No pod speaks as another, or as a router. Before conntrack, so that it costs no entry there.
        "sources": Chain(
            (
                "iifname @pod_links goto own_source",
                # Nor does anybody out there speak as one.
                f'iifname {{ "lo", "{vxlan.DEVICE}", "{wireguard.DEVICE}" }} return',
                "ip saddr @guarded4 drop",
                "ip6 saddr @guarded6 drop",
            ),
            "type filter hook prerouting priority raw;",
        ),
        "own_source": Chain(
            (
                "iifname . ip saddr @pod_sources4 return",
                "iifname . ip6 saddr @pod_sources6 return",
                "meta nfproto { ipv4, ipv6 } drop",
            )
        ),
    },
)


class PodAddresses:
    """A part. ``attached``: all pods' addresses by uid; ``pod_cidrs``: all nodes' ranges.

    ``guarded``: those of them that packets come from by a pod's or an overlay's link alone.
    ``service_cidrs``: the ranges of cluster IPs where the hub gave none.

    Pods are those that were attached, also by a process before: what the state does not name yet is there.
    """

    def __init__(
        self,
        attached: Callable[[], Mapping[str, Sequence[str]]],
        pod_cidrs: Callable[[], Iterable[str]],
        guarded: Callable[[], Iterable[str]],
        service_cidrs: Iterable[str],
    ) -> None:
        self._attached = attached
        self._pod_cidrs = pod_cidrs
        self._guarded = guarded
        self._service_cidrs = tuple(service_cidrs)
        self._of_pods: dict[str, tuple[Sequence[str], Fragment]] = {}
        self._cluster = Fragment()

    def fragments(self, state: NetworkState) -> tuple[dict[str, Fragment], list[Problem]]:
        """The frame, a fragment of each pod, and the ranges of the cluster."""
        before, self._of_pods = self._of_pods, {}
        for uid, ips in self._attached().items():
            old = before.get(uid)
            self._of_pods[uid] = old if old is not None and old[0] == ips else (list(ips), _pod(uid, ips))
        cluster = [*(given_ranges(state) or self._service_cidrs), *self._pod_cidrs()]
        elements = _ranges("cluster", cluster) | _ranges("guarded", self._guarded())
        if elements != self._cluster.elements:
            self._cluster = Fragment(elements=elements)
        found = {"pods": _FRAME, "cluster": self._cluster}
        return found | {f"sandbox {uid}": fragment for uid, (_, fragment) in self._of_pods.items()}, []


def _pod(uid: str, ips: Sequence[str]) -> Fragment:
    link = f'"{link_name(uid)}"'
    elements: dict[str, dict[str, str]] = {"pod_links": {link: ""}}
    for ip in ips:
        family = 6 if ip_address(ip).version == 6 else 4
        for name, element in (
            (f"local_pods{family}", ip),
            (f"hairpin{family}", f"{ip} . {ip}"),
            (f"pod_sources{family}", f"{link} . {ip}"),
        ):
            elements.setdefault(name, {})[element] = ""
    return Fragment(elements=elements)


def _ranges(name: str, cidrs: Iterable[str]) -> dict[str, dict[str, str]]:
    """The elements of a pair of sets of ranges. What is no range is for those to report who use it."""
    found = {}
    asked = list(dict.fromkeys(cidrs))
    for version in (4, 6):
        valid = []
        for cidr in asked:
            try:
                within = ip_network(cidr[:64], strict=False)
            except ValueError:
                continue
            if within.version == version:
                valid.append(within)
        merged: Iterable[object] = collapse_addresses(valid)  # type: ignore[type-var]
        found[f"{name}{version}"] = dict.fromkeys(map(str, merged), "")
    return found
