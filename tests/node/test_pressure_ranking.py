"""Who is evicted first, what it is told, and when it comes back.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
"""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.node.pressure.amounts import parse_amount
from edgeagent.node.pressure.comeback import (
    FORGOTTEN_SECONDS,
    count_eviction,
    wait_before_return,
    why_not_admitted,
)
from edgeagent.node.pressure.limits import earliest_excess, exceeded
from edgeagent.node.pressure.pods import DiskUsage, RunningContainer, RunningPod
from edgeagent.node.pressure.ranking import Candidate, Usage, eviction_message, grace_for, ranked
from edgeagent.node.pressure.thresholds import CONDITIONS, ConditionType, Reading, Resource, Threshold

MI = 1024.0**2


def candidate(
    uid: str,
    used: float,
    request: float = 0,
    *,
    priority: int = 0,
    critical: bool = False,
    resource: Resource = "memory",
) -> Candidate:
    pod = RunningPod(
        uid=uid, namespace="default", name=uid, containers=(), priority=priority, critical=critical,
        requests={resource: request} if request else {},
    )  # fmt: skip
    return Candidate(pod, Usage(used), resource)


def order(candidates: Sequence[Candidate], lacking: float = 1) -> list[str]:
    return [one.pod.uid for one in ranked(candidates, lacking=lacking)]


def test_usage_over_requests_comes_first_whatever_the_priority() -> None:
    assert order([candidate("within", 90, 100), candidate("over", 101, 100, priority=1000)]) == [
        "over",
        "within",
    ]


def test_then_priority_then_usage_relative_to_requests() -> None:
    pods = [
        candidate("a", 500, 100, priority=5),
        candidate("b", 110, 100),
        candidate("c", 150, 100),
        candidate("d", 300, 290),
    ]
    assert order(pods) == ["c", "b", "d", "a"]
    assert order([candidate("a", 50, 100), candidate("b", 290, 300)]) == ["b", "a"]


def test_process_ids_and_inodes_have_no_requests() -> None:
    pids = [candidate("many", 500, priority=1, resource="pids"), candidate("few", 5, resource="pids")]
    assert order(pids) == ["few", "many"], "priority decides"
    inodes = [candidate("some", 200, resource="inodes"), candidate("most", 500, resource="inodes")]
    assert order(inodes) == ["most", "some"]


def test_critical_pods_stay() -> None:
    assert order([candidate("static", 900, critical=True)]) == []


@pytest.mark.parametrize("resource", ["ephemeral-storage", "inodes"])
def test_no_pod_ends_for_nothing_on_a_disk_that_others_have_filled(resource: Resource) -> None:
    assert order([candidate("a", 0, resource=resource), candidate("b", 99, resource=resource)], 1000) == []
    assert order([candidate("a", 0, resource=resource), candidate("b", 100, resource=resource)], 1000) == [
        "b"
    ]


def test_who_keeps_to_its_storage_requests_stays() -> None:
    assert order([candidate("a", 900, 1000, resource="ephemeral-storage")]) == []


CANDIDATES = st.lists(
    st.builds(
        candidate,
        st.uuids().map(str),
        st.integers(0, 50),
        st.integers(0, 50),
        priority=st.integers(-2, 2),
        critical=st.booleans(),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(candidates=CANDIDATES, data=st.data())
def test_the_order_is_kubernetes_own(candidates: list[Candidate], data: st.DataObject) -> None:
    found = ranked(candidates, lacking=1)
    assert found == ranked(data.draw(st.permutations(candidates)), lacking=1), "it does not depend on chance"
    assert all(not one.pod.critical and one.usage.total > 0 for one in found)
    for one, other in pairwise(found):
        assert (one.excess > 0) >= (other.excess > 0)
        if (one.excess > 0) == (other.excess > 0):
            assert one.pod.priority <= other.pod.priority
            if one.pod.priority == other.pod.priority:
                assert one.excess >= other.excess


HARD = Threshold("memory.available", parse_amount("100Mi"))
SOFT = Threshold("memory.available", parse_amount("200Mi"), hard=False, grace_seconds=90)


@pytest.mark.parametrize(
    ("threshold", "ceiling", "grace"), [(HARD, 60, 0), (SOFT, 60, 45), (SOFT, 30, 30), (SOFT, 0, 45)]
)
def test_grace(threshold: Threshold, ceiling: int, grace: int) -> None:
    pod = RunningPod(uid="u", namespace="n", name="p", containers=(), grace_seconds=45)
    assert grace_for(pod, threshold, ceiling) == grace


def test_the_message_is_kubelets() -> None:
    containers = [
        RunningContainer("web", "1", 1, requests={"memory": 10 * MI}),
        RunningContainer("side", "2", 2),
    ]
    pod = RunningPod(uid="u", namespace="n", name="p", containers=containers)
    usage = Usage(30 * MI, {"web": 5 * MI, "side": 25 * MI})
    assert eviction_message(Candidate(pod, usage, "memory"), HARD, Reading(50 * MI, 1e9)) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51200Ki. "
        "Container side was using 25600Ki, request is 0, has larger consumption of memory. "
    )


LIMITED = RunningPod(
    uid="u", namespace="n", name="p",
    containers=[RunningContainer("web", "1", 1, storage_limit=10 * MI), RunningContainer("side", "2", 2)],
    volume_limits={"cache": 50 * MI}, storage_limit=80 * MI,
)  # fmt: skip
I_MI = int(MI)


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        (DiskUsage({"cache": 50 * I_MI}, {"web": 10 * I_MI, "side": 20 * I_MI}), ""),
        (
            DiskUsage({"cache": 50 * I_MI + 1}),
            'Usage of EmptyDir volume "cache" exceeds the limit "51200Ki". ',
        ),
        (
            DiskUsage({"cache": 40 * I_MI}, {"web": 10 * I_MI, "side": 31 * I_MI}),
            "Pod ephemeral local storage usage exceeds the total limit of containers 81920Ki. ",
        ),
        (
            DiskUsage({}, {"web": 11 * I_MI}),
            'Container web exceeded its local ephemeral storage limit "10240Ki". ',
        ),
    ],
)
def test_limits_of_ephemeral_storage(usage: DiskUsage, message: str) -> None:
    """https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/"""
    assert exceeded(LIMITED, usage) == message
    assert (earliest_excess(LIMITED, usage) > 0) or message or usage.volumes["cache"] == 50 * I_MI


def test_without_limits_there_is_nothing_to_measure() -> None:
    pod = RunningPod(uid="u", namespace="n", name="p", containers=[RunningContainer("web", "1", 1)])
    assert LIMITED.has_storage_limits
    assert not pod.has_storage_limits
    assert exceeded(pod, DiskUsage({"v": 10**15}, {"web": 10**15})) == ""
    assert earliest_excess(pod, DiskUsage()) == float("inf")


@settings(deadline=None)
@given(count=st.integers(0, 10_000), period=st.floats(0, 7200))
def test_a_pod_that_is_evicted_again_and_again_returns_ever_later(count: int, period: float) -> None:
    wait = wait_before_return(count, period)
    assert period <= wait <= max(period, 3600)
    assert wait <= wait_before_return(count + 1, period)


def test_the_waits() -> None:
    assert [wait_before_return(count, 300) for count in range(1, 7)] == [300, 600, 1200, 2400, 3600, 3600]


def test_evictions_that_lie_far_apart_are_counted_anew() -> None:
    assert count_eviction(0, 1.8e9) == 1
    assert count_eviction(1, FORGOTTEN_SECONDS) == 2
    assert count_eviction(5, FORGOTTEN_SECONDS + 1) == 1
    assert count_eviction(5, -10) == 1, "the clock was set back: nothing is known of the time between"


@pytest.mark.parametrize(
    ("conditions", "best_effort", "others"),
    [
        (set(), "", ""),
        ({"MemoryPressure"}, "The node had condition: [MemoryPressure]. ", ""),
        (
            {"DiskPressure"},
            "The node had condition: [DiskPressure]. ",
            "The node had condition: [DiskPressure]. ",
        ),
        (
            {"PIDPressure"},
            "The node had condition: [PIDPressure]. ",
            "The node had condition: [PIDPressure]. ",
        ),
        (
            set(CONDITIONS),
            "The node had condition: [MemoryPressure, DiskPressure, PIDPressure]. ",
            "The node had condition: [MemoryPressure, DiskPressure, PIDPressure]. ",
        ),
    ],
)
def test_who_may_start_under_pressure(conditions: set[ConditionType], best_effort: str, others: str) -> None:
    now = frozenset(conditions)
    assert why_not_admitted(now, "BestEffort", critical=False) == best_effort
    assert why_not_admitted(now, "Burstable", critical=False) == others
    assert why_not_admitted(now, "Guaranteed", critical=False) == others
    assert why_not_admitted(now, "BestEffort", critical=True) == ""
