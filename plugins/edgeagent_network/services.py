"""Services in force: what kube-proxy does, as fragments of the table.

https://kubernetes.io/docs/concepts/services-networking/service/
https://kubernetes.io/docs/reference/networking/virtual-ips/

``service NAMESPACE/NAME`` is the fragment of a Service, ``services`` what they share. A Service that
did not change is not looked at again unless another one wants, or gives back, what both claim.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import NetworkService, NetworkState, Problem
from edgeagent.api.objects.service import Protocol, Service
from edgeagent_network.config import NetworkConfig
from edgeagent_network.ruleset import Fragment
from edgeagent_network.serviceplan import Claim, ServicePlan, ServicePlanner, given_ranges, problem
from edgeagent_network.servicerules import service_fragment, shared_fragment

SHARED_KEY = "services"

_Age = tuple[str, str, str, str]


def knows_sctp(root: Path = Path("/")) -> bool:
    """Whether the kernel tracks SCTP connections; yes where conntrack is not there yet to be asked."""
    sysctls = root / "proc/sys/net/netfilter"
    return not sysctls.is_dir() or (sysctls / "nf_conntrack_sctp_timeout_closed").exists()


class _Kept(msgspec.Struct):
    """What was made of a Service, and of what."""

    plan: ServicePlan
    claims: frozenset[Claim]
    lost: frozenset[Claim]
    fragment: Fragment
    problems: tuple[Problem, ...]


class Services:
    """Makes fragments of Services. Not safe to share between threads."""

    def __init__(self, config: NetworkConfig, *, sctp: bool = True) -> None:
        """PermanentError where ``config`` has a range that is none."""
        self._config, self._sctp = config, sctp
        self._planner = ServicePlanner(config, sctp=sctp)
        self._given: tuple[str, ...] = ()
        self._range_problems: list[Problem] = []
        self._listed: list[NetworkService] = []
        self._sources: dict[str, NetworkService] = {}
        self._kept: dict[str, _Kept] = {}
        self._claimants: dict[Claim, dict[str, _Age]] = {}
        self._node_ports: frozenset[tuple[Protocol, int]] = frozenset()
        self._fragments: dict[str, Fragment] = {SHARED_KEY: shared_fragment()}
        self._problems: dict[str, tuple[Problem, ...]] = {}

    @property
    def node_ports(self) -> frozenset[tuple[Protocol, int]]:
        """The ports of the host's addresses that belong to Services."""
        return self._node_ports

    def plan(self, key: str) -> ServicePlan | None:
        """What of the Service ``NAMESPACE/NAME`` is in force."""
        kept = self._kept.get(key)
        return kept.plan if kept is not None else None

    def fragments(self, state: NetworkState) -> tuple[dict[str, Fragment], list[Problem]]:
        """The fragments of ``state``'s Services by key, and what of them is not in force."""
        gone, changed = self._differences(state.services)
        if self._take_ranges(state):
            changed = {_key(source.service): source for source in state.services}
        if gone or changed:
            self._change(gone, changed)
            for key in gone:
                del self._sources[key]
            self._sources |= changed
            self._node_ports = frozenset(
                (protocol, port) for address, protocol, port in self._claimants if not address
            )
        self._listed = state.services
        found = [one for key in self._problems for one in self._problems[key]]
        return dict(self._fragments), self._range_problems + found

    def _take_ranges(self, state: NetworkState) -> bool:
        """Whether the hub gave others than before. What is no range leaves those of before in use."""
        given = tuple(given_ranges(state))
        if given == self._given:
            return False
        self._given, self._range_problems = given, []
        try:
            self._planner = ServicePlanner(self._config, sctp=self._sctp, given=given)
        except PermanentError as error:
            self._range_problems = [Problem("NodeNetwork", "", state.node, error.reason, str(error))]
            return False
        return True

    def _differences(self, services: list[NetworkService]) -> tuple[list[str], dict[str, NetworkService]]:
        """Which Services went, by key, and which are not the objects that they were."""
        if len(services) == len(self._listed) == len(self._sources):
            pairs = [pair for pair in zip(self._listed, services, strict=True) if pair[0] is not pair[1]]
            if all(_key(old.service) == _key(new.service) for old, new in pairs):
                return [], {_key(new.service): new for _, new in pairs}
        current = {_key(source.service): source for source in services}
        changed = {key: source for key, source in current.items() if self._sources.get(key) is not source}
        return [key for key in self._sources if key not in current], changed

    def _change(self, gone: Iterable[str], changed: dict[str, NetworkService]) -> None:
        touched: set[str] = set()
        plans = {key: self._planner.plan(source) for key, source in changed.items()}
        for key in (*gone, *changed):
            if (kept := self._kept.pop(key, None)) is not None:
                self._disclaim(key, kept, touched)
                del self._fragments[_fragment_key(key)]
                self._problems.pop(key, None)
        claims = {key: frozenset(plan.claims()) for key, plan in plans.items()}
        for key, plan in plans.items():
            for claim in claims[key]:
                claimants = self._claimants.setdefault(claim, {})
                touched.update(claimants)
                claimants[key] = _age(plan.source.service)
        for key, plan in plans.items():
            self._keep(key, plan, claims[key])
        for key in touched - plans.keys():
            kept = self._kept.get(key)
            # One that lost something before may have lost it to another now, which its problem names.
            if kept is not None and (kept.lost or self._lost(key, kept.claims)):
                self._keep(key, kept.plan, kept.claims)

    def _disclaim(self, key: str, kept: _Kept, touched: set[str]) -> None:
        for claim in kept.claims:
            claimants = self._claimants[claim]
            del claimants[key]
            touched.update(claimants)
            if not claimants:
                del self._claimants[claim]

    def _lost(self, key: str, claims: Iterable[Claim]) -> frozenset[Claim]:
        return frozenset(claim for claim in claims if self._owner(claim) != key)

    def _owner(self, claim: Claim) -> str:
        claimants = self._claimants[claim]
        return next(iter(claimants)) if len(claimants) == 1 else min(claimants, key=claimants.__getitem__)

    def _keep(self, key: str, plan: ServicePlan, claims: frozenset[Claim]) -> None:
        lost = self._lost(key, claims)
        fragment = service_fragment(plan, lost)
        problems = (*plan.problems, *(self._conflict(plan, claim) for claim in sorted(lost)))
        self._kept[key] = _Kept(plan, claims, lost, fragment, problems)
        self._fragments[_fragment_key(key)] = fragment
        self._problems.pop(key, None)
        if problems:
            self._problems[key] = problems

    def _conflict(self, plan: ServicePlan, claim: Claim) -> Problem:
        address, protocol, port = claim
        what = f"{address} port {port}/{protocol}" if address else f"nodePort {port}/{protocol}"
        reason = "ClusterIPConflict" if address else "NodePortConflict"
        return problem(
            plan.source.service, reason, f"{what} belongs to the older Service {self._owner(claim)}"
        )


def _key(service: Service) -> str:
    return f"{service.metadata.namespace}/{service.metadata.name}"


def _fragment_key(key: str) -> str:
    return f"service {key}"


def _age(service: Service) -> _Age:
    """Sorts older Services first, and those of one age always in the same order."""
    meta = service.metadata
    return meta.creation_timestamp, meta.namespace, meta.name, meta.uid
