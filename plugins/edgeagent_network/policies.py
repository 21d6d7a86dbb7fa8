"""NetworkPolicies in force: who is isolated by which of them, and which pods their rules speak of.

https://kubernetes.io/docs/concepts/services-networking/network-policies/

Four kinds of fragments. ``policy NAMESPACE/NAME`` is what ``policyrules`` makes of a policy; only policies
that select a pod of this node are there. ``policy set NAME`` is a set of pods that rules ask (``podsets``).
``isolation DIRECTION HASH`` is a chain for pods that the same policies isolate: a jump to the chain of each,
then a counted drop. ``policies of pod UID`` holds everything that one pod brings: the map elements that lead
to its isolation, and its address in the sets that select it. So a pod that comes or goes is a handful of
elements, whatever the number of policies.

Traffic between the node and its pods does not pass the forward hook, which is what Kubernetes asks for. Pods
on the host's network are neither isolated nor peers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.network import NetworkState, Problem
from edgeagent.api.objects.policy import LABEL_NAMESPACE_NAME, NetworkPolicy
from edgeagent.api.objects.selector import selects
from edgeagent_network.isolation import Isolation, Key, drop_fragment, isolation, isolation_fragment
from edgeagent_network.podaddresses import Claimed, claims
from edgeagent_network.podsets import PodSet, PortName
from edgeagent_network.policyrules import (
    DIRECTIONS,
    CompiledPolicy,
    check_identity,
    compile_policy,
)
from edgeagent_network.ruleset import Fragment

T = TypeVar("T")

_Member = tuple[str, str, PortName]
"""A set in the kernel, an element of it, and which port that is, if it is one."""


class _Pod(msgspec.Struct):
    """A pod as it was when its fragment was made."""

    claimed: Claimed
    selected: frozenset[Key] = frozenset()
    isolations: tuple[Isolation, ...] = ()
    members: dict[str, tuple[_Member, ...]] = msgspec.field(default_factory=dict)
    """By the name of a ``PodSet``; those it is not in are left out."""


class Policies:
    """Makes the fragments, and remembers them from call to call.

    ``log_group``: where each drop is logged too, a group of nfnetlink_log; 0 for nowhere.
    """

    def __init__(self, *, log_group: int = 0) -> None:
        self._drop = drop_fragment(log_group)
        self._policies: dict[Key, CompiledPolicy] = {}
        self._of_namespace: dict[str, dict[Key, CompiledPolicy]] = {}
        self._unreadable: list[Problem] = []
        self._namespaces: dict[str, dict[str, str]] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self._pods: dict[str, _Pod] = {}
        self._users: Counter[Key] = Counter()
        self._isolated: Counter[Isolation] = Counter()
        self._in_force: dict[Key, CompiledPolicy] = {}
        self._sets: dict[str, PodSet] = {}
        self._set_users: Counter[str] = Counter()
        self._resolved: Counter[tuple[str, PortName]] = Counter()
        self._fragments: dict[str, Fragment] = {}

    def fragments(self, state: NetworkState) -> tuple[dict[str, Fragment], list[Problem]]:
        """All fragments of ``state``, unchanged ones the same objects as before, and what of the policies is
        not in force.
        """
        used_before = frozenset(self._users)
        changed = self._take_policies(state.policies)
        claimed, problems = claims(state, {uid: pod.claimed for uid, pod in self._pods.items()})
        fresh = self._take_pods(claimed) | self._in_changed_namespaces(state.namespaces)
        self._select(fresh, changed)
        changed |= self._users.keys() ^ used_before
        came, gone = self._take_fragments(changed)
        for uid, pod in self._pods.items():
            if changed or uid in fresh:
                for name in gone & pod.members.keys():
                    self._set_members(pod, name, ())
                labels = self._labels_of(pod.claimed.pod.namespace)
                for name in self._sets if uid in fresh else came:
                    self._set_members(pod, name, tuple(self._sets[name].members(pod.claimed, labels)))
                self._put(_pod_key(uid), _pod_fragment(pod))
        return dict(self._fragments), [*self._unreadable, *problems, *self._problems()]

    @property
    def compiled(self) -> Mapping[Key, CompiledPolicy]:
        """All policies that could be read, by namespace and name."""
        return self._policies

    def selected(self, key: Key) -> list[str]:
        """The names of this node's pods that a policy selects, sorted."""
        return sorted(pod.claimed.pod.name for pod in self._pods.values() if key in pod.selected)

    def _take_policies(self, policies: Sequence[NetworkPolicy]) -> set[Key]:
        """Compile what is new; the keys of policies that came, went or changed."""
        changed: set[Key] = set()
        there: set[Key] = set()
        self._unreadable = []
        for policy in policies:
            key = (policy.metadata.namespace, policy.metadata.name)
            known = self._policies.get(key)
            if known is None or known.policy is not policy:
                try:
                    check_identity(policy)
                except InvalidObjectError as error:
                    self._unreadable.append(_problem(key, "InvalidObject", f"not in force: {error}"))
                    continue
                compiled = compile_policy(policy)
                self._policies[key] = compiled
                self._of_namespace.setdefault(key[0], {})[key] = compiled
                changed.add(key)
            there.add(key)
        for key in self._policies.keys() - there:
            del self._policies[key]
            del self._of_namespace[key[0]][key]
            changed.add(key)
        return changed

    def _take_pods(self, claimed: Mapping[str, Claimed]) -> set[str]:
        """Forget the pods that are gone; the uids of those that are new or changed."""
        for uid in self._pods.keys() - claimed.keys():
            gone = self._pods.pop(uid)
            self._set_selected(gone, frozenset())
            for name in list(gone.members):
                self._set_members(gone, name, ())
            self._put(_pod_key(uid), None)
        fresh: set[str] = set()
        for uid, now in claimed.items():
            pod = self._pods.get(uid)
            if pod is None:
                self._pods[uid] = _Pod(now)
            elif pod.claimed is not now:
                if not now.local:
                    self._set_selected(pod, frozenset())
                pod.claimed = now
            else:
                continue
            fresh.add(uid)
        return fresh

    def _in_changed_namespaces(self, namespaces: Mapping[str, dict[str, str]]) -> set[str]:
        """The uids of pods whose namespace has other labels than before."""
        if namespaces == self._namespaces:
            return set()
        now = {name: {**labels, LABEL_NAMESPACE_NAME: name} for name, labels in namespaces.items()}
        before, self._namespaces, self._labels = self._labels, dict(namespaces), now
        changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        return {uid for uid, pod in self._pods.items() if pod.claimed.pod.namespace in changed}

    def _select(self, uids: set[str], changed: set[Key]) -> None:
        """Which policies select the pods of this node: asked of all for pods of ``uids``, else of those that
        changed. Pods that are alike are asked for once.
        """
        answers: dict[tuple[str, frozenset[tuple[str, str]], frozenset[Key] | None], frozenset[Key]] = {}
        isolations: dict[frozenset[Key], tuple[Isolation, ...]] = {}
        for uid, pod in self._pods.items():
            if not pod.claimed.local or not (changed or uid in uids):
                continue
            namespace, labels = pod.claimed.pod.namespace, pod.claimed.pod.labels
            kept = None if uid in uids else pod.selected - changed
            alike = (namespace, frozenset(labels.items()), kept)
            if (selected := answers.get(alike)) is None:
                policies = self._of_namespace.get(namespace, {})
                asked = policies.keys() if kept is None else changed & policies.keys()
                chosen = frozenset(key for key in asked if selects(policies[key].selector, labels))
                selected = answers[alike] = chosen | (kept or frozenset())
            if selected not in isolations:
                isolations[selected] = tuple(self._isolations(selected))
            self._set_selected(pod, selected, isolations[selected])

    def _isolations(self, selected: frozenset[Key]) -> Iterable[Isolation]:
        for direction in DIRECTIONS:
            if keys := [key for key in selected if direction in self._policies[key].directions]:
                yield isolation(direction, keys)

    def _set_selected(
        self, pod: _Pod, selected: frozenset[Key], isolations: tuple[Isolation, ...] = ()
    ) -> None:
        if selected != pod.selected:
            _replace(self._users, pod.selected, selected)
            pod.selected = selected
        if isolations == pod.isolations:
            return
        _replace(self._isolated, pod.isolations, isolations)
        for one in {*pod.isolations, *isolations}:
            key = f"isolation {one.chain}"
            if one not in self._isolated:
                self._put(key, None)
            elif key not in self._fragments:
                self._put(key, isolation_fragment(one))
        pod.isolations = isolations

    def _labels_of(self, namespace: str) -> dict[str, str]:
        return self._labels.get(namespace) or {LABEL_NAMESPACE_NAME: namespace}

    def _set_members(self, pod: _Pod, name: str, members: tuple[_Member, ...]) -> None:
        before = pod.members.get(name, ())
        if before or members:
            _replace(self._resolved, _ports(name, before), _ports(name, members))
        if members:
            pod.members[name] = members
        elif before:
            del pod.members[name]

    def _take_fragments(self, changed: Iterable[Key]) -> tuple[set[str], set[str]]:
        """The policies' own fragments and those of the sets that they ask: which of these came and went."""
        before = frozenset(self._sets)
        for key in changed:
            old = self._in_force.pop(key, None)
            new = self._policies[key] if key in self._users else None
            if new is not None:
                self._in_force[key] = new
                self._sets.update(new.sets)
            _replace(self._set_users, old.sets if old else (), new.sets if new else ())
            self._put(f"policy {'/'.join(key)}", new.fragment if new else None)
        for name in self._sets.keys() - self._set_users.keys():
            del self._sets[name]
        for name in self._sets.keys() ^ before:
            self._put(f"policy set {name}", self._sets[name].fragment() if name in self._sets else None)
        self._put("policy drops", self._drop if self._isolated else None)
        return set(self._sets.keys() - before), set(before - self._sets.keys())

    def _put(self, key: str, fragment: Fragment | None) -> None:
        if fragment is None:
            self._fragments.pop(key, None)
        elif self._fragments.get(key) != fragment:
            self._fragments[key] = fragment

    def _problems(self) -> Iterable[Problem]:
        for key, compiled in self._policies.items():
            if compiled.problems:
                said = f"what is no good of it allows nothing: {'; '.join(compiled.problems)}"
                yield _problem(key, "InvalidObject", said)
        for key, compiled in self._in_force.items():
            for path, direction, pods in compiled.named:
                for name, protocol in sorted(pods.ports):
                    if not self._resolved[pods.name, (name, protocol)]:
                        whose = "selected pod" if direction == "ingress" else "pod it may reach"
                        said = f"{path}.ports: no {whose} has a {protocol} port named {name!r}"
                        yield _problem(key, "NamedPortNotFound", said)


def _ports(name: str, members: Iterable[_Member]) -> list[tuple[str, PortName]]:
    return [(name, port) for _, _, port in members if port[0]]


def _replace(counter: Counter[T], before: Iterable[T], after: Iterable[T]) -> None:
    """Count ``after`` in place of ``before``; what is at zero is not in a counter."""
    for one in after:
        counter[one] += 1
    for one in before:
        counter[one] -= 1
        if not counter[one]:
            del counter[one]


def _pod_key(uid: str) -> str:
    return f"policies of pod {uid}"


def _pod_fragment(pod: _Pod) -> Fragment | None:
    elements: dict[str, dict[str, str]] = {}
    for one in pod.isolations:
        for version, text in pod.claimed.addresses:
            elements.setdefault(f"{one.direction}{version}", {})[text] = f"goto {one.chain}"
    for members in pod.members.values():
        for name, element, _ in members:
            elements.setdefault(name, {})[element] = ""
    return Fragment(elements=elements) if elements else None


def _problem(key: Key, reason: str, message: str) -> Problem:
    return Problem(kind="NetworkPolicy", namespace=key[0], name=key[1], reason=reason, message=message[:1000])
