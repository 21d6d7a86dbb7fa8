"""A pod that gets the node's DNS, though it asked for the cluster's, says so once.

https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy
"""

from pathlib import Path

import pytest

from edgeagent.api.objects.pod import Pod
from tests.node.podworld import FakeNetwork, PodWorld, pod, run, with_spec


@pytest.mark.parametrize(
    ("made", "times"),
    [
        (pod("a", host_network=False), 1),
        (with_spec(pod("a"), dns_policy="ClusterFirstWithHostNet"), 1),
        (with_spec(pod("a", host_network=False), dns_policy="Default"), 0),
        (pod("a"), 0),
    ],
)
def test_a_missing_cluster_dns_is_told_once(tmp_path: Path, made: Pod, times: int) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path, network=FakeNetwork()) as world:
            await world.apply(made)
            await world.end("a", 1)
            await world.advance(3600)
            await world.restart()
            await world.advance(3600)
            assert world.status("a").phase == "Running"
            events = world.said("MissingClusterDNS")
            assert len(events) == times
            for event in events:
                policy = made.spec.dns_policy or "ClusterFirst"
                assert event.type == "Warning"
                assert event.message == (
                    'pod: "a_default(uid-a)". The node does not have ClusterDNS IP configured and cannot'
                    f' create Pod using "{policy}" policy. Falling back to "Default" policy.'
                )

    run(scenario)
