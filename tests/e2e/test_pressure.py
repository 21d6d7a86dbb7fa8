"""A node under pressure, on real parts: it evicts, holds back what does not run yet, and gets over it.

docs/adr/0011-evicted-pods-come-back.md
"""

from pathlib import Path

import pytest

from tests.support.cluster import Cluster, container, containers, pod, running, sleeper
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

NODE = "n1"
EVICTION = '[eviction]\npressure_transition_period = "1s"\nhard = {"pid.available" = "%s"}\n'
CALM, PRESSED = EVICTION % "0%", EVICTION % "99.999%"
"""The second is more than any machine has left: a hundred thousandth of the process ids is in use."""


@pytest.mark.slow
def test_an_evicted_pod_and_one_that_was_held_back_run_once_the_pressure_is_over(
    podman: PodmanService, tmp_path: Path
) -> None:
    critical = pod(
        "critical", NODE, [container("main", ["sleep", "3600"])], priorityClassName="system-node-critical"
    )
    with Cluster(tmp_path, podman) as cluster:
        node = cluster.add_node(NODE, extra=CALM)

        def restart(old: str, new: str) -> None:
            node.process.terminate()
            node.config.write_text(node.config.read_text().replace(old, new))
            node.start()

        def condition(name: str, type_: str) -> tuple[str, str]:
            found = node.pod(name).get("status", {}).get("conditions", [])
            return next(((c["reason"], c["message"]) for c in found if c["type"] == type_), ("", ""))

        node.start()
        cluster.apply(sleeper("victim", NODE))
        cluster.wait_phase("victim", "Running")

        restart(CALM, PRESSED)
        cluster.wait_phase("victim", "Failed")
        wait_for(lambda: not containers(podman), 20, "the evicted pod's containers to be removed")
        status = node.pod("victim")["status"]
        assert status["reason"] == "Evicted"
        assert "low on resource: pids" in status["message"]
        assert node.condition("PIDPressure")["status"] == "True"
        cluster.apply(sleeper("late", NODE), critical)
        cluster.wait_phase("critical", "Running")
        words = ("NodeUnderPressure", "The node had condition: [PIDPressure].")
        wait_for(lambda: condition("late", "Accepted") == words, what="the late pod to say why it waits")
        assert [seen.pod for seen in running(podman)] == ["critical"]

        restart(PRESSED, CALM)
        cluster.wait_phase("late", "Running")
        cluster.wait_phase("victim", "Running")
        assert node.pod("victim")["status"].get("reason", "") == ""
        assert {seen.pod for seen in running(podman)} == {"victim", "late", "critical"}
