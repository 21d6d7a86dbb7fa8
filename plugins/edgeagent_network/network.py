"""The plugin's ``Network``: joins what gives pods their places with what makes up the table."""

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.network import Attachment, NetworkReport, NetworkState, PodSandbox, Problem, Rows
from edgeagent.api.objects.network import NodeNetworkSpec
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent_network.addresses import Addresses, node_address, parse_range
from edgeagent_network.config import NetworkConfig
from edgeagent_network.conntrack import StaleFlows
from edgeagent_network.dnsserver import DnsServer, Served
from edgeagent_network.firewall import Firewall
from edgeagent_network.generation import Generation, own_generation
from edgeagent_network.host import forward, pod_mtu
from edgeagent_network.hostranges import HostRanges
from edgeagent_network.parts import Compose, Fragments, compose
from edgeagent_network.peers import Peers
from edgeagent_network.pods import PodAddresses
from edgeagent_network.policies import Policies
from edgeagent_network.programs import Runner, run_program
from edgeagent_network.sandbox import NETNS, Sandboxes, check_uid
from edgeagent_network.serviceplan import given_ranges
from edgeagent_network.services import Services
from edgeagent_network.sight import Sight
from edgeagent_network.table import Table
from edgeagent_network.trace import Tracer
from edgeagent_network.traceflow import Flow
from edgeagent_network.view import RulesetView

P = TypeVar("P")

RESYNC_SECONDS = 300.0
"""How often, at most, what nobody changes is looked at again in a call of ``reconcile``."""
LOOK_SECONDS = 60.0
"""After how long a call of ``reconcile`` is asked for though nothing changed: someone may flush the table."""
ORPHAN_SECONDS = 600.0
"""For how long a pod that a process before attached may be unheard of before its place is taken back."""


class KernelNetwork:
    """``edgeagent.api.network.Network`` by the kernel's own means. For one thread.

    ``run`` runs programs in the host's network, ``generation`` reads the generation of its nftables, and
    ``monotonic`` counts seconds. ``dns`` answers pods' questions for names; None for the node's own DNS.
    """

    def __init__(
        self,
        config: NetworkConfig,
        state_dir: Path,
        *,
        run: Runner = run_program,
        generation: Generation | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        netns: Path = NETNS,
        compose: Compose = compose,
        dns: DnsServer | None = None,
    ) -> None:
        self._config = config
        self._run = run
        self._monotonic = monotonic
        self._addresses = Addresses(state_dir / "addresses.json")
        self._sandboxes = Sandboxes(run, config.namespace_prefix, netns)
        self._table = Table(run, generation or own_generation())
        self._parts = compose(config)
        self._pods = PodAddresses(
            lambda: self._addresses.pods,
            lambda: [*self._addresses.cidrs, *self._peers.cidrs],
            self._guarded,
            config.service_cidrs,
        )
        self._flows = StaleFlows(run)
        self._dns = dns
        self._peers = Peers(config, state_dir, run, monotonic=monotonic)
        self._host_ranges = HostRanges(run)
        self._conflict = ""  # of this node's range with the host's networks
        self._firewall = Firewall(config, state_dir / "firewall.json", monotonic=monotonic)
        self._begun = monotonic()
        self._attached: set[str] = set()  # in this process
        self._ready = False
        self._families: frozenset[int] = frozenset()
        self._mtu = 0
        self._own: NodeNetworkSpec | None = None
        self._looked = monotonic()
        self._state: NetworkState | None = None

    def attach(self, pod: PodSandbox) -> Attachment:
        """See the contract. PermanentError for a uid that no namespace can be named after, or a kernel that
        cannot; TemporaryError where no address is left, or the pods' range is on a network of the host.
        """
        uid = check_uid(pod.uid)
        self._prepare()
        if self._conflict and uid not in self._addresses.pods:
            raise TemporaryError(self._conflict, reason="PodCIDRConflict")
        self._attached.add(uid)
        ips = self._addresses.allocate(uid)
        self._sandboxes.ensure(uid, ips, self._mtu, self._node_ips())
        return Attachment(namespace_path=str(self._sandboxes.path(uid)), ips=ips)

    def detach(self, pod: PodSandbox) -> None:
        """See the contract."""
        try:
            uid = check_uid(pod.uid)
        except PermanentError:
            return  # it was never attached
        self._sandboxes.remove(uid)
        self._addresses.free(uid)
        self._attached.discard(uid)

    def reconcile(self, state: NetworkState) -> NetworkReport:
        """See the contract. PermanentError where the kernel or a program that is needed is missing."""
        problems = self._take_ranges(state)
        self._look_again()
        self._collect(state)
        conflicts, found = self._conflicts(state)
        problems += found
        peers = self._peers.reconcile(state, self._addresses.cidrs, self._mtu, conflicts)
        problems += peers.problems
        firewall = self._firewall.reconcile(state)
        problems += firewall.problems
        ruleset: Fragments = {**peers.fragments, **firewall.fragments}
        for part in (*self._parts, self._pods):
            fragments, found = part.fragments(state)
            ruleset |= fragments
            problems += found
        self._state = state
        problems += [_refusal(key, said, state.node) for key, said in self._table.apply(ruleset).items()]
        problems += self._flows.clear(ruleset, state.node)
        dns = self._dns.reconcile(state) if self._dns is not None else Served()
        problems += dns.problems
        if self._addresses.set_aside is not None:
            said = f"{self._addresses.set_aside} was unreadable; pods' addresses were read off their links"
            problems.append(_node_problem(state.node, "AddressesUnreadable", said))
        return NetworkReport(
            problems=problems,
            public_key=peers.public_key,
            dns=dns.addresses,
            on_trial=firewall.on_trial,
            retry_after=min(
                filter(None, (peers.retry_after, firewall.retry_after, dns.retry_after, LOOK_SECONDS))
            ),
        )

    def show(self, what: Rows) -> list[dict[str, str]]:
        """See the contract."""
        if what == "peers":
            return self._peers.rows()
        sight = Sight(self._in_force(), self._table.applied, self._run)
        if what == "services":
            return sight.services()
        if what == "policies":
            policies = self._part(Policies)
            return sight.policies(policies.compiled, policies.selected)
        if what == "firewall":
            return sight.firewall(self._firewall.standing())
        return sight.drops()

    def trace(self, source: str, target: str, port: int, protocol: Transport) -> list[str]:
        """See the contract; ``trace.Tracer.trace`` says what is an end, and how the lines end."""
        tracer = Tracer(
            self._in_force(),
            self._table.applied,
            self._run,
            plan=self._part(Services).plan,
            policies=self._part(Policies).compiled,
            host_firewall=self._into_host,
        )
        return tracer.trace(source, target, port, protocol)

    def _into_host(self, flow: Flow) -> tuple[bool, str]:
        if RulesetView(self._table.applied).find(f"local_pods{flow.version}", flow.source) is not None:
            return True, "the node's own pods always reach it"
        return self._firewall.admits(flow.source, flow.port, flow.protocol)

    def _in_force(self) -> NetworkState:
        if self._state is None:
            raise TemporaryError("the network was not made yet: try again soon", reason="NetworkNotReady")
        return self._state

    def _part(self, kind: type[P]) -> P:
        """The part of this kind. PermanentError where the table is composed without one."""
        for part in self._parts:
            if isinstance(part, kind):
                return part
        raise PermanentError(f"this network has no {kind.__name__.lower()}", reason="NotSupported")

    # The node's place

    def _take_ranges(self, state: NetworkState) -> list[Problem]:
        """Use the ranges that the hub gave this node, or those of the config."""
        own = next((node.spec for node in state.nodes if node.metadata.name == state.node), None)
        cidrs = own.pod_cidrs if own is not None and own.pod_cidrs else self._config.pod_cidrs
        problems = []
        try:
            self._use(cidrs)
        except PermanentError as error:
            problems = [_node_problem(state.node, error.reason, str(error))]
        if self._conflict:
            problems.append(_node_problem(state.node, "PodCIDRConflict", self._conflict))
        self._prepare()
        if own is not self._own:
            self._own = own
            self._set_mtu()
        return problems

    def _use(self, cidrs: Sequence[str]) -> None:
        """Give pods addresses of these ranges, unless the host is on one of them itself."""
        found = self._host_ranges.conflicts(cidrs, self._made(cidrs))
        self._conflict = "; ".join(f"pod range {cidr} overlaps {said}" for cidr, said in found.items())
        if not self._conflict:
            self._sandboxes.remove_node_addresses(self._addresses.use(cidrs))

    def _guarded(self) -> list[str]:
        """The ranges whose packets come by pods' or overlays' links alone; a plain route leads over any."""
        is_overlay = self._own is not None and self._own.overlay != "route"
        return [*self._addresses.ranges, *(self._peers.cidrs if is_overlay else ())]

    def _made(self, cidrs: Sequence[str] = ()) -> set[str]:
        """The addresses that this node has in pods' ranges."""
        return {node_address(parse_range(cidr)) for cidr in (*self._addresses.ranges, *cidrs)}

    def _conflicts(self, state: NetworkState) -> tuple[dict[str, str], list[Problem]]:
        """Which ranges of peers the host is on itself, and what is to be said of such ranges of Services."""
        peers: list[str] = []
        if self._own is not None and self._own.overlay != "none":
            nodes = (node for node in state.nodes if node.metadata.name != state.node)
            peers = [cidr for node in nodes for cidr in node.spec.pod_cidrs]
        services = given_ranges(state) or self._config.service_cidrs
        found = self._host_ranges.conflicts([*services, *peers], self._made())
        problems = [
            _node_problem(
                state.node, "ServiceCIDRConflict", f"service range {cidr} overlaps {found.pop(cidr)}"
            )
            for cidr in services
            if cidr in found
        ]
        return found, problems

    def _prepare(self) -> None:
        """What must be before the first pod: ranges, forwarding, and the addresses that pods have already."""
        if not self._addresses.cidrs and not self._conflict:
            self._use(self._config.pod_cidrs)
        if not self._ready:
            for found in self._sandboxes.found():
                if self._sandboxes.path(found.uid).exists():
                    self._addresses.adopt(found.uid, list(found.ips))
        if not self._mtu:
            self._mtu = pod_mtu(self._run, self._config.mtu, self._own)
        families = frozenset(ip_network(cidr).version for cidr in self._addresses.cidrs)
        if families != self._families:
            forward(self._run, families)
            self._families = families
        self._ready = True

    def _node_ips(self) -> list[str]:
        return [node_address(ip_network(cidr)) for cidr in self._addresses.cidrs]

    def _set_mtu(self) -> None:
        self._mtu = pod_mtu(self._run, self._config.mtu, self._own)
        others = {one.uid for one in self._sandboxes.found() if one.mtu != self._mtu}
        self._sandboxes.set_mtu(sorted(others & self._addresses.pods.keys()), self._mtu)

    def _look_again(self) -> None:
        """Now and then: that the host still forwards, and how large its packets are."""
        now = self._monotonic()
        if now - self._looked >= RESYNC_SECONDS:
            self._looked = now
            self._host_ranges.forget()
            forward(self._run, self._families)
            self._set_mtu()

    def _collect(self, state: NetworkState) -> None:
        """Take back what belongs to nobody.

        Pods that this process attached are detached by who had them attached. Of those that a process
        before attached, the ones that are heard of no more are gone, unless something still runs in them.
        """
        if self._monotonic() - self._begun < ORPHAN_SECONDS:
            return
        heard = {pod.uid for pod in state.pods} | self._attached
        orphans = [
            uid for uid in self._addresses.pods if uid not in heard and not self._sandboxes.is_used(uid)
        ]
        for uid in orphans:
            self._sandboxes.remove(uid)
            self._addresses.free(uid)
        self._sandboxes.collect(self._addresses.pods.keys())
        self._begun = self._monotonic()


def _node_problem(node: str, reason: str, message: str) -> Problem:
    return Problem(kind="NodeNetwork", namespace="", name=node, reason=reason, message=message)


_KINDS = {"service": "Service", "policy": "NetworkPolicy", "firewall": "HostFirewall"}


def _refusal(key: str, said: str, node: str) -> Problem:
    """That nft did not take a fragment; its key says which object's it is."""
    word, _, rest = key.partition(" ")
    namespace, _, name = rest.rpartition("/")
    message = f"nftables refuses it: {said}"
    if word in _KINDS and name:
        return Problem(
            kind=_KINDS[word], namespace=namespace, name=name, reason="NotInForce", message=message
        )
    return _node_problem(node, "NotInForce", f"{key}: {message}")
