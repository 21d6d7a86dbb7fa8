"""Agents whose clock is wrong, against a real hub, a real broker and a real Podman."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from edgeagent.api.clock import parse_rfc3339
from tests.support.cluster import AgentProcess, Cluster, container, containers, pod, running, sleeper
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for
from tests.support.wrongclock import WrongClock

pytestmark = pytest.mark.slow

YEAR = 365 * 86_400.0


@pytest.fixture
def cluster(podman_service: PodmanService, tmp_path: Any) -> Iterator[Cluster]:
    """A cluster without nodes."""
    podman_service.start()
    with Cluster(tmp_path / "c", podman_service) as made:
        yield made
    podman_service.kill_all_containers()


def is_true(node: AgentProcess, type_: str) -> bool:
    """Whether the node says so of itself."""
    return node.condition(type_).get("status") == "True"


def at_hub(cluster: Cluster, name: str, type_: str) -> dict[str, Any]:
    """A condition of the node as operators see it; empty where it has none."""
    conditions = (cluster.get("node", name) or {}).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == type_), {})


def says(cluster: Cluster, name: str, reason: str, words: str) -> bool:
    """Whether operators are told what is wrong with the node's clock."""
    told = at_hub(cluster, name, "ClockInSync")
    wrong = (told.get("status"), told.get("reason")) == ("False", reason)
    return wrong and words in told["message"] and "timedatectl" in told["message"]


def has_reason(cluster: Cluster, reason: str) -> bool:
    """Whether operators are told this of the clock of the one node."""
    return bool(at_hub(cluster, "n1", "ClockInSync").get("reason") == reason)


@pytest.mark.parametrize(
    ("now", "reason", "words"),
    [(60.0, "ClockBehind", "years behind"), (None, "ClockAhead", "about 10 years ahead")],
)
def test_a_node_that_boots_with_a_wrong_clock_is_ready(
    cluster: Cluster, now: float | None, reason: str, words: str
) -> None:
    began = time.time()
    cluster.directory.joinpath("clock").mkdir()
    clock = WrongClock(cluster.directory / "clock")
    node = cluster.add_node("n1", env=clock.env)
    clock.set(10 * YEAR) if now is None else clock.set_to(now)
    certificate = (node.directory / "state" / "identity" / "node.crt").read_bytes()
    echo = pod("echo", "n1", [container("main", ["sh", "-c", "echo hello; sleep 3600"])])
    cluster.apply(echo)
    node.start()
    wait_for(lambda: is_true(node, "Connected"), 30, "a session")
    cluster.wait_phase("echo", "Running")
    wait_for(lambda: says(cluster, "n1", reason, words), 30, "the clock to be told of")
    assert at_hub(cluster, "n1", "Ready")["status"] == "True"
    # Calls that live for half a minute are served.
    wait_for(lambda: "hello" in cluster.ctl("logs", "echo", check=False).stdout, 20, "the pod's log")
    # What the node dates by itself since it knows the time is dated rightly.
    cluster.apply(echo, sleeper("later", "n1"))
    cluster.wait_phase("later", "Running")
    started = parse_rfc3339(cluster.get("pod", "later")["status"]["startTime"])
    assert began - 5 <= started <= time.time() + 5
    # And nothing is renewed for a date that is wrong.
    assert (node.directory / "state" / "identity" / "node.crt").read_bytes() == certificate
    assert "CertificateRenewed" not in cluster.ctl("get", "events", "-A").stdout
    # The next boot without a battery begins where this one ended, not in 1970.
    node.process.terminate()
    clock.set_to(60.0)
    cluster.broker.terminate()
    node.start()
    floor = parse_rfc3339(node.condition("Connected")["lastTransitionTime"])
    assert began - 5 <= floor <= time.time() + 5


def test_a_clock_that_is_set_disturbs_nothing(cluster: Cluster, podman_service: PodmanService) -> None:
    cluster.directory.joinpath("clock").mkdir()
    clock = WrongClock(cluster.directory / "clock")
    node = cluster.add_node("n1", env=clock.env)
    node.start()
    pods = [
        sleeper("a", "n1"),
        sleeper("late", "n1", activeDeadlineSeconds=3600),
        pod(
            "probed",
            "n1",
            [
                {
                    **container("main", ["sleep", "3600"]),
                    "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
                }
            ],
        ),
    ]
    cluster.apply(*pods)
    for name in ("a", "late", "probed"):
        cluster.wait_phase(name, "Running")
    wait_for(lambda: at_hub(cluster, "n1", "ClockInSync").get("status") == "True", 20, "a clock in order")
    before = running(podman_service)
    connections = (node.directory / "agent.log").read_text().count("connected to ")
    for number, (ahead, reason) in enumerate(
        [
            (10 * YEAR, "ClockAhead"),
            (60 - time.time(), "ClockBehind"),
            (-7200.0, "ClockBehind"),
            (0.0, "InSync"),
        ]
    ):
        clock.set(ahead)
        # Something happens, so that the node looks at all of its pods.
        pods.append(sleeper(f"new{number}", "n1"))
        cluster.apply(*pods)
        cluster.wait_phase(f"new{number}", "Running")
        wait_for(partial(has_reason, cluster, reason), 20, "the clock to be told of")
        cluster.ctl("logs", "a")  # a call is served, whatever the date
    assert [one for one in running(podman_service) if one.id in {old.id for old in before}] == before
    assert len(containers(podman_service)) == len(pods)
    assert all(node.container_status(name)["restartCount"] == 0 for name in ("a", "late", "probed"))
    assert is_true(node, "Connected")
    assert (node.directory / "agent.log").read_text().count("connected to ") == connections == 1
