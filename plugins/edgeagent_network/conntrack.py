"""Forgetting the UDP flows of endpoints that went.

A TCP connection to an endpoint that is gone ends by itself. A UDP flow has no end, so the kernel would send a
client that goes on asking to the old endpoint for as long as it asks. As kube-proxy does:
https://github.com/kubernetes/kubernetes/blob/master/pkg/proxy/conntrack/cleanup.go
"""

from dataclasses import dataclass
from ipaddress import ip_address

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.network import NetworkService, NetworkState, Problem
from edgeagent.api.objects.service import HEADLESS
from edgeagent_network.programs import Runner


@dataclass(frozen=True, slots=True)
class Flow:
    """Flows to ``address`` (empty: any of the host's) and ``port``, which ``endpoint`` answers.

    An empty ``endpoint`` is that nobody does: flows from before a Service had any.
    """

    address: str
    port: int
    endpoint: str = ""


class StaleFlows:
    """Remembers who answers for the Services."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._sources: dict[tuple[str, str], NetworkService] = {}
        self._flows: dict[tuple[str, str], frozenset[Flow]] = {}

    def clear(self, state: NetworkState) -> list[Problem]:
        """Forget the flows that lead to endpoints which the state before had and this one has not.

        Call it once the table is as ``state`` says. The first state has none before it.
        """
        sources = {(one.service.metadata.namespace, one.service.metadata.name): one for one in state.services}
        stale: set[Flow] = set()
        for key in self._sources.keys() - sources.keys():
            stale |= self._flows.pop(key, frozenset())
        for key, source in sources.items():
            if self._sources.get(key) is not source:
                before, now = self._flows.get(key, frozenset()), flows(source)
                if now:
                    self._flows[key] = now
                else:
                    self._flows.pop(key, None)
                stale |= before - now
                if key in self._sources:
                    served = {(one.address, one.port) for one in before}
                    stale |= {
                        Flow(one.address, one.port) for one in now if (one.address, one.port) not in served
                    }
        self._sources = sources
        try:
            for flow in sorted(stale, key=str):
                self._run(arguments(flow), check=False)  # it fails where there is no such flow
        except EdgeAgentError as error:
            reason = getattr(error, "reason", "") or "NetworkFailed"
            said = f"UDP flows of endpoints that went are not forgotten: {error}"
            return [Problem(kind="NodeNetwork", namespace="", name=state.node, reason=reason, message=said)]
        return []


def flows(source: NetworkService) -> frozenset[Flow]:
    """All flows of a Service's UDP ports."""
    spec = source.service.spec
    addresses = [one for one in (*spec.cluster_ips, spec.cluster_ip, *spec.external_ips) if one != HEADLESS]
    found = set()
    for port in spec.ports:
        if port.protocol != "UDP":
            continue
        places = [(_plain(address), port.port) for address in addresses]
        if port.node_port:
            places.append(("", port.node_port))
        endpoints = {
            _plain(one.ip) for one in source.backends.get(port.name, []) if one.ready or one.serving
        } - {""}
        found |= {
            Flow(address, number, endpoint)
            for address, number in places
            if address or number == port.node_port
            for endpoint in endpoints
            if not address or (":" in address) == (":" in endpoint)
        }
    return frozenset(found)


def arguments(flow: Flow) -> list[str]:
    """The command that forgets it."""
    six = ":" in (flow.address or flow.endpoint)
    return [
        *("conntrack", "-D", "-f", "ipv6" if six else "ipv4", "-p", "udp"),
        *(("--orig-dst", flow.address) if flow.address else ()),
        *("--orig-port-dst", str(flow.port)),
        *(("--reply-src", flow.endpoint) if flow.endpoint else ()),
    ]


def _plain(address: str) -> str:
    """The address as everybody writes it; empty for what is none."""
    try:
        return str(ip_address(address))
    except ValueError:
        return ""
