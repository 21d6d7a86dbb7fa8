"""NetworkPolicies in the kernel: all put there at once, one pod added, and nothing to do.

In a network namespace of its own, with a thousand policies and fifty pods. *Sparse*: each policy selects one
of twenty applications and lets another one in. *Dense*: each policy selects all pods and lets all pods in.
``nft -f`` of the same ruleset as one script is the baseline of putting all there; of one pod it is ``nft -f``
of nothing but the elements that the pod brings, and ``nft -f`` of all again.
"""

import time
from collections.abc import Callable
from statistics import median

from benchmarks.report import Report
from benchmarks.scene import progress
from edgeagent.api.network import NetworkPod, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.policy import (
    NetworkPolicy,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from edgeagent.api.objects.selector import LabelSelector
from edgeagent_network.base import BASE
from edgeagent_network.generation import generation_of, netlink_socket
from edgeagent_network.policies import Policies
from edgeagent_network.ruleset import TABLE, Fragment
from edgeagent_network.table import Table
from tests.support.netlab import Lab
from tests.support.nftscript import whole_table

POLICIES = 1_000
PODS = 50
APPLICATIONS = 20
CHANGES = 20
IDLE_CALLS = 20
FULL_RUNS = 3


def run() -> Report:
    """Both shapes, and the sparse one with a tenth of the policies to see how the cost grows."""
    report = Report("policies")
    with Lab() as lab:
        for name, policies, dense in (
            ("sparse_100", 100, False),
            ("sparse_1000", POLICIES, False),
            ("dense_1000", POLICIES, True),
        ):
            progress(f"{policies} policies x {PODS} pods, {name}")
            _measure(report, lab, name, [_policy(number, dense=dense) for number in range(policies)])
            report.ratio(f"full_{name}_to_nft", f"full_{name}_ms", f"nft_full_{name}_ms")
            report.ratio(f"pod_{name}_to_nft", f"pod_{name}_ms", f"nft_pod_{name}_ms")
            report.ratio(f"pod_{name}_to_nft_full", f"pod_{name}_ms", f"nft_full_{name}_ms")
    report.notes.append(
        "full: a fresh Policies and Table, from NetworkState to the kernel. pod: a pod that comes or goes, "
        "likewise; of nft alone it is the elements of that pod. idle: the same state again, CPU. A baseline "
        "is the nft process alone, with its script ready made"
    )
    return report


def _measure(report: Report, lab: Lab, name: str, policies: list[NetworkPolicy]) -> None:
    pods = [_pod(number) for number in range(PODS)]
    states = [
        NetworkState(node="here", pods=some, namespaces={"default": {}}, policies=policies)
        for some in (pods, [*pods, _pod(PODS)])
    ]
    fragments, _ = Policies().fragments(states[0])
    script = whole_table({"base": BASE, **fragments})
    report.baseline[f"nft_full_{name}_ms"] = median(
        _ms(lambda: lab.host.nft(script)) for _ in range(FULL_RUNS)
    )
    added, removed = _elements(Policies().fragments(states[1])[0][f"policies of pod uid-{PODS}"])
    report.baseline[f"nft_pod_{name}_ms"] = median(
        _ms(lambda: lab.host.nft((added, removed)[number % 2]))  # noqa: B023
        for number in range(CHANGES)
    )
    with lab.inside(lab.host.name, netlink_socket) as netlink:

        def whole() -> tuple[Policies, Table]:
            made, table = Policies(), Table(lab.host.run, generation_of(netlink))
            _apply(made, table, states[0])
            return made, table

        report.figures[f"full_{name}_ms"] = median(_ms(whole) for _ in range(FULL_RUNS))
        made, table = whole()
        report.figures[f"pod_{name}_ms"] = median(
            _ms(lambda: _apply(made, table, states[(number + 1) % 2]))  # noqa: B023
            for number in range(CHANGES)
        )
        begun = time.process_time()
        for _ in range(IDLE_CALLS):
            _apply(made, table, states[0])
        report.figures[f"idle_{name}_cpu_ms"] = (time.process_time() - begun) * 1000 / IDLE_CALLS


def _apply(made: Policies, table: Table, state: NetworkState) -> None:
    fragments, problems = made.fragments(state)
    refused = table.apply({"base": BASE, **fragments})
    if problems or refused:
        raise RuntimeError(f"not all is in force: {problems[:1]}{refused}")


def _elements(fragment: Fragment) -> tuple[str, str]:
    """Scripts that add the elements of a fragment, and that take them away."""
    added, removed = [], []
    for name, members in fragment.elements.items():
        filled = ", ".join(f"{key} : {value}" if value else key for key, value in members.items())
        added.append(f"add element inet {TABLE} {name} {{ {filled} }}")
        removed.append(f"delete element inet {TABLE} {name} {{ {', '.join(members)} }}")
    return "\n".join(added) + "\n", "\n".join(removed) + "\n"


def _ms(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


def _pod(number: int) -> NetworkPod:
    return NetworkPod(
        uid=f"uid-{number}",
        namespace="default",
        name=f"pod-{number}",
        ips=[f"10.42.0.{number + 1}"],
        labels={"app": f"app-{number % APPLICATIONS}"},
    )


def _policy(number: int, *, dense: bool) -> NetworkPolicy:
    def app(one: int) -> LabelSelector:
        return LabelSelector(match_labels={} if dense else {"app": f"app-{one % APPLICATIONS}"})

    return NetworkPolicy(
        api_version="networking.k8s.io/v1",
        metadata=ObjectMeta(name=f"policy-{number}", namespace="default", uid=f"uid-{number}"),
        spec=NetworkPolicySpec(
            pod_selector=app(number),
            ingress=[
                NetworkPolicyIngressRule(
                    from_=[NetworkPolicyPeer(pod_selector=app(number // APPLICATIONS))],
                    ports=[NetworkPolicyPort(port=1000 + number)],
                )
            ],
        ),
    )
