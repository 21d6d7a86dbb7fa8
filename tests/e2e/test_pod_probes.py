"""Liveness, readiness and startup probes, made of containers on a real Podman.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

import datetime
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.healthserver import health_server
from tests.support.lone import LoneAgent, lone_agent, static_pod
from tests.support.podman import PodmanService
from tests.support.podtable import covers
from tests.support.probed import Answer, ProbedServer, probed_server, unvouched_tls
from tests.support.waiting import wait_for

Fields = dict[str, Any]
SERVING, NOT_SERVING = 1, 2
ENDLESS = "while :; do sleep 0.1; done"
PATIENT = 60
"""Seconds of a probe's timeout, where the test says how long an answer takes."""


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share an agent."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled."""
    with lone_agent(tmp_path_factory.mktemp("lone"), podman) as agent:
        yield agent


@pytest.fixture
def web() -> Iterator[ProbedServer]:
    """A server on this machine's loopback, which answers as the test says."""
    with probed_server() as server:
        yield server


def every_second(**fields: object) -> Fields:
    """A probe that is made each second."""
    return {"periodSeconds": 1, **fields}


def asking(web: ProbedServer, path: str, scheme: str = "HTTP", **fields: object) -> Fields:
    """A probe each second that asks ``web`` for ``path``, and waits for its answer."""
    get = {"host": "127.0.0.1", "port": web.port, "path": path, "scheme": scheme}
    return {"httpGet": get, "timeoutSeconds": PATIENT, **every_second(**fields)}


def first(status: Fields) -> Fields:
    """The status of the first container; empty while it has none."""
    found: Fields = next(iter(status.get("containerStatuses", [])), {})
    return found


def by_name(status: Fields) -> list[Fields]:
    """The containers' statuses in the order of their names, which puts ``main`` last."""
    return sorted(status.get("containerStatuses", []), key=lambda one: str(one["name"]))


def is_ready(status: Fields) -> bool:
    """Whether all containers of a pod are ready, by all that says so."""
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    every = all(one["ready"] for one in status.get("containerStatuses", [{"ready": False}]))
    verdicts = {every, conditions.get("Ready") == "True", conditions.get("ContainersReady") == "True"}
    return verdicts == {True}


def is_unready(status: Fields) -> bool:
    """Whether the first container runs and is not ready, and the pod is not for that."""
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    running = "running" in first(status).get("state", {}) and not first(status)["ready"]
    return running and conditions.get("Ready") == conditions.get("ContainersReady") == "False"


def restarted(times: int = 1) -> Any:
    """Whether the first container runs for another time."""
    return lambda status: (
        first(status).get("restartCount") == times and "running" in first(status).get("state", {})
    )


def messages(lone: LoneAgent, pod: str, reason: str) -> list[str]:
    """What the pod's events of this reason say."""
    return [event["message"] for event in lone.events(pod) if event["reason"] == reason]


def wait_event(lone: LoneAgent, pod: str, reason: str, *parts: str) -> None:
    """Wait for an event of the pod that has all ``parts`` in its message."""
    wait_for(
        lambda: any(all(part in message for part in parts) for message in messages(lone, pod, reason)),
        20,
        f"the event {reason}: {parts}",
    )


# What is made of the answers


@covers("Container.readinessProbe", "Probe.exec", "ExecAction.command", "Probe.periodSeconds")
def test_a_container_is_ready_while_a_command_in_it_succeeds(lone: LoneAgent) -> None:
    # No shell is between: the name is taken as it stands.
    name = "/$HOME is; ready"
    probe = every_second(exec={"command": ["test", "-e", name]}, failureThreshold=1)
    with lone.running(static_pod("exec", container={"readinessProbe": probe}), until=is_unready):
        wait_event(lone, "exec", "Unhealthy", "Readiness probe failed")
        lone.exec("exec", "touch", name)
        lone.wait_status("exec", is_ready)
        lone.exec("exec", "rm", name)
        gone = lone.wait_status("exec", is_unready)
        # It gets no requests any more, but it is left alone.
        assert first(gone["status"])["restartCount"] == 0


@covers("Probe.successThreshold", "Probe.failureThreshold")
def test_readiness_changes_after_so_many_answers_in_a_row(lone: LoneAgent, web: ProbedServer) -> None:
    probe = asking(web, "/ready", successThreshold=2, failureThreshold=2)
    with lone.running(static_pod("rows", container={"readinessProbe": probe}), until=is_unready):
        web.say("/ready", 200, 500, 200)
        web.wait_asked("/ready", 4)
        assert is_unready(lone.status("rows"))
        web.say("/ready", 200)
        lone.wait_status("rows", is_ready)
        web.say("/ready", 500, 200, 500)
        web.wait_asked("/ready", 8)
        assert is_ready(lone.status("rows"))
        web.say("/ready", 500)
        lone.wait_status("rows", is_unready)


@covers("Container.livenessProbe")
def test_a_container_that_fails_its_liveness_probe_is_restarted(lone: LoneAgent, web: ProbedServer) -> None:
    pod = static_pod("dying", container={"livenessProbe": asking(web, "/alive", failureThreshold=2)})
    with lone.running(pod):
        web.say("/alive", 500, 200, 500)
        web.wait_asked("/alive", 4)
        assert first(lone.status("dying"))["restartCount"] == 0
        web.say("/alive", 503)
        seen = lone.wait_status("dying", restarted())
        assert first(seen["status"])["lastState"]["terminated"]["exitCode"] == 137
        wait_event(lone, "dying", "Unhealthy", "Liveness probe failed", "503")
        wait_event(lone, "dying", "Killing", "main failed liveness probe, will be restarted")
        # The new run is judged from the beginning.
        web.wait_asked("/alive", 5)
        web.say("/alive", 500, 200)
        web.wait_asked("/alive", 7)
        assert first(lone.status("dying"))["restartCount"] == 1


@covers("Container.startupProbe")
def test_the_other_probes_wait_for_the_startup_probe(lone: LoneAgent, web: ProbedServer) -> None:
    probes = {
        "startupProbe": asking(web, "/started"),
        "livenessProbe": asking(web, "/alive", failureThreshold=1),
        "readinessProbe": asking(web, "/ready"),
    }
    with lone.running(static_pod("slow", container=probes), until=is_unready) as seen:
        assert first(seen["status"])["started"] is False
        web.say("/started", 500, 500)
        web.wait_asked("/started", 3)
        assert {one.path for one in web.asked} == {"/started"}
        web.say("/started", 200)
        web.wait_asked("/alive")
        web.wait_asked("/ready")
        assert is_unready(lone.wait_status("slow", lambda status: first(status)["started"])["status"])
        web.always["/ready"] = web.always["/alive"] = Answer(200)
        web.say("/ready", 200)
        web.say("/alive", 200)
        lone.wait_status("slow", is_ready)
        web.wait_asked("/alive", 3)
        # Once it has succeeded it is not made any more.
        assert len(web.requests("/started")) == 3


def test_a_container_that_does_not_start_in_time_is_restarted(lone: LoneAgent, web: ProbedServer) -> None:
    web.always["/started"] = Answer(500)
    probe = asking(web, "/started", failureThreshold=2)
    with lone.running(static_pod("late", container={"startupProbe": probe}), until=restarted()):
        wait_event(lone, "late", "Unhealthy", "Startup probe failed", "500")
        wait_event(lone, "late", "Killing", "main failed startup probe, will be restarted")
    with lone.running(
        static_pod("over", container={"startupProbe": probe}, restartPolicy="Never"),
        until=lambda status: status.get("phase") == "Failed",
    ) as seen:
        assert first(seen["status"])["state"]["terminated"]["exitCode"] == 137


@covers("Probe.terminationGracePeriodSeconds")
@pytest.mark.parametrize(
    ("kind", "of_pod", "of_probe", "on_term"),
    [
        ("livenessProbe", 120, 1, ""),
        ("startupProbe", 120, 1, ""),
        ("livenessProbe", 1, 120, "sleep 3; touch /d/done; exit 7"),
    ],
)
def test_a_failed_probe_may_have_a_grace_period_of_its_own(
    lone: LoneAgent, web: ProbedServer, tmp_path: Path, kind: str, of_pod: int, of_probe: int, on_term: str
) -> None:
    again = "trap 'exit 0' TERM; touch /d/again"
    script = f"if test -e /d/up; then {again}; else trap '{on_term}' TERM; touch /d/up; fi; {ENDLESS}"
    pod = static_pod(
        "graced",
        ["sh", "-c", script],
        container={
            kind: asking(web, "/", failureThreshold=1, terminationGracePeriodSeconds=of_probe),
            "volumeMounts": [{"name": "shared", "mountPath": "/d"}],
        },
        volumes=[{"name": "shared", "hostPath": {"path": str(tmp_path)}}],
        terminationGracePeriodSeconds=of_pod,
    )
    with lone.running(pod):
        wait_for((tmp_path / "up").exists, 10, "the trap")
        web.say("/", 500)
        seen = lone.wait_status("graced", restarted())
        assert (tmp_path / "done").exists() is bool(on_term)
        assert first(seen["status"])["lastState"]["terminated"]["exitCode"] == (7 if on_term else 137)
        # So that the pod itself ends soon.
        wait_for((tmp_path / "again").exists, 10, "the second trap")


# When they are made, and for how long


@covers("Probe.initialDelaySeconds")
def test_the_first_probe_comes_after_the_initial_delay(lone: LoneAgent, web: ProbedServer) -> None:
    web.always["/at-once"] = web.always["/later"] = Answer(200)
    probes = {
        "livenessProbe": asking(web, "/at-once"),
        "readinessProbe": asking(web, "/later", initialDelaySeconds=3),
    }
    with lone.running(static_pod("delayed", container=probes)):
        started = datetime.datetime.fromisoformat(lone.inspect("delayed")["State"]["StartedAt"]).timestamp()
        assert web.wait_asked("/at-once")[0].at < started + 3
        assert is_unready(lone.status("delayed"))
        assert started + 2.9 < web.wait_asked("/later")[0].at < started + 9


@covers("Probe.periodSeconds")
def test_probes_come_a_period_after_each_other(lone: LoneAgent, web: ProbedServer) -> None:
    web.always["/one"] = web.always["/three"] = Answer(200)
    probes = {"livenessProbe": asking(web, "/one"), "readinessProbe": asking(web, "/three", periodSeconds=3)}
    with lone.running(static_pod("paced", container=probes)):
        times = [one.at for one in web.wait_asked("/three", 3)]
        assert all(2.8 < later - sooner < 5.5 for sooner, later in pairwise(times))
        assert len(web.requests("/one")) >= 5


@covers("Probe.timeoutSeconds")
def test_an_answer_that_takes_longer_than_the_timeout_is_a_failure(
    lone: LoneAgent, web: ProbedServer
) -> None:
    pod = static_pod("hanging", *[["sleep", "3600"]] * 3)
    command = {"exec": {"command": ["sleep", "4242"]}, "timeoutSeconds": 1, "periodSeconds": 3600}
    probes = [
        {**command, "failureThreshold": 1},
        {**asking(web, "/short", failureThreshold=1), "timeoutSeconds": 1},
        asking(web, "/long", failureThreshold=1),
    ]
    for container, probe in zip(pod["spec"]["containers"], probes, strict=True):
        container["readinessProbe"] = probe
    with lone.running(pod, until=is_unready):
        wait_event(lone, "hanging", "Unhealthy", "Readiness probe failed", "sleep 4242", "timed out")
        wait_event(lone, "hanging", "Unhealthy", "Readiness probe failed", "timed out after 1s")
        # The command is not left behind.
        wait_for(lambda: "4242" not in lone.exec("hanging", "ps").stdout, 10, "the command to be ended")
        web.wait_asked("/short", 3)
        assert len(web.requests("/long")) == 1
        web.say("/long", 200)
        lone.wait_status(
            "hanging", lambda status: [c["ready"] for c in by_name(status)] == [False, True, False]
        )


# httpGet


@covers("Probe.httpGet", "HTTPGetAction.port", "HTTPGetAction.path")
def test_a_path_of_the_pods_own_server_is_asked_for(lone: LoneAgent) -> None:
    get = {"port": "web", "path": "/health/ok"}
    pod = static_pod(
        "served",
        ["httpd", "-f", "-p", "8080", "-h", "/www"],
        container={
            "workingDir": "/www",
            "ports": [{"name": "web", "containerPort": 8080}],
            "readinessProbe": every_second(httpGet=get, timeoutSeconds=10, failureThreshold=1),
            "livenessProbe": every_second(httpGet={"port": 8080}, timeoutSeconds=10, failureThreshold=100),
        },
        hostNetwork=False,
    )
    with lone.running(pod, until=is_unready):
        wait_event(lone, "served", "Unhealthy", "Readiness probe failed", "404")
        # Without a path it is the root, which has no page here.
        wait_event(lone, "served", "Unhealthy", "Liveness probe failed", "404")
        lone.exec("served", "sh", "-c", "mkdir health; echo fine > health/ok")
        lone.wait_status("served", is_ready)


@covers("HTTPGetAction.host", "HTTPGetAction.httpHeaders", "HTTPHeader.name", "HTTPHeader.value")
def test_what_is_asked_for_where_and_with_which_headers(lone: LoneAgent, web: ProbedServer) -> None:
    web.always["/"] = web.always["/deep/path"] = Answer(200)
    get = {"host": "127.0.0.1", "port": web.port}
    headers = [
        ("Host", "pump.example"),
        ("X-Token", "one"),
        ("X-Token", "two"),
        ("User-Agent", "tester/1"),
        ("Accept", ""),
    ]
    probes = {
        "livenessProbe": every_second(httpGet=get),
        "readinessProbe": every_second(
            httpGet={
                **get,
                "path": "/deep/path?full=1&of=it",
                "httpHeaders": [{"name": name, "value": value} for name, value in headers],
            }
        ),
    }
    # The pod's own loopback is not where the host is looked for.
    with lone.running(static_pod("headed", container=probes, hostNetwork=False), until=is_ready):
        plain, headed = web.wait_asked("/")[0], web.wait_asked("/deep/path")[0]
        assert headed.path == "/deep/path?full=1&of=it"
        assert headed.headers.get_all("Host") == ["pump.example"]
        assert headed.headers.get_all("X-Token") == ["one", "two"]
        assert headed.headers.get_all("User-Agent") == ["tester/1"]
        assert headed.headers.get_all("Accept") is None
        assert plain.headers.get_all("Host") == [f"127.0.0.1:{web.port}"]
        assert plain.headers.get_all("Accept") == ["*/*"]


@covers("HTTPGetAction.scheme")
def test_https_is_spoken_and_the_certificate_not_verified(lone: LoneAgent, tmp_path: Path) -> None:
    with probed_server(tls=unvouched_tls(tmp_path / "server.pem")) as web:
        pod = static_pod("sealed", ["sleep", "3600"], ["sleep", "3600"])
        sealed, plain = pod["spec"]["containers"]
        sealed["readinessProbe"] = asking(web, "/sealed", scheme="HTTPS", failureThreshold=1)
        plain["readinessProbe"] = {**asking(web, "/plain", failureThreshold=1), "timeoutSeconds": 1}
        web.say("/sealed", 200, 500)
        with lone.running(pod, until=lambda status: [c["ready"] for c in by_name(status)] == [False, True]):
            pass
        assert not web.requests("/plain")


def test_success_is_a_status_from_200_to_399(lone: LoneAgent, web: ProbedServer) -> None:
    probe = asking(web, "/ready", failureThreshold=1)
    with lone.running(static_pod("judged", container={"readinessProbe": probe}), until=is_unready):
        for good, bad in ((204, 400), (399, 500)):
            web.say("/ready", good)
            lone.wait_status("judged", is_ready)
            web.say("/ready", bad)
            lone.wait_status("judged", is_unready)
        wait_event(lone, "judged", "ProbeWarning", "Readiness probe warning: Probe terminated redirects")


def test_redirects_are_followed_on_the_same_host_alone(lone: LoneAgent, web: ProbedServer) -> None:
    probe = asking(web, "/old", failureThreshold=1)
    with lone.running(static_pod("moved", container={"readinessProbe": probe}), until=is_unready):
        web.say("/new", 500, 200)
        web.say("/old", 302, location="/new")
        wait_event(lone, "moved", "Unhealthy", "Readiness probe failed", "500")
        web.say("/old", 307, location="/new")
        lone.wait_status("moved", is_ready)
        web.say("/old", 500)
        lone.wait_status("moved", is_unready)
        web.say("/old", 302, location="http://elsewhere.example/new")
        lone.wait_status("moved", is_ready)
        wait_event(lone, "moved", "ProbeWarning", "Readiness probe warning", "elsewhere.example")


# tcpSocket and grpc


@covers("Probe.tcpSocket", "TCPSocketAction.port")
def test_a_port_of_the_pod_that_can_be_connected_to_is_success(lone: LoneAgent) -> None:
    script = "while ! test -e /open; do sleep 0.1; done; exec nc -ll -p 9000 -e true"
    for number, port in enumerate(("pump", 9000)):
        name = f"port{number}"
        probe = every_second(tcpSocket={"port": port}, timeoutSeconds=10, failureThreshold=1)
        container = {"ports": [{"name": "pump", "containerPort": 9000}], "readinessProbe": probe}
        pod = static_pod(name, ["sh", "-c", script], container=container, hostNetwork=False)
        with lone.running(pod, until=is_unready):
            wait_event(lone, name, "Unhealthy", "Readiness probe failed", "connection refused")
            lone.exec(name, "touch", "/open")
            lone.wait_status(name, is_ready)


@covers("TCPSocketAction.host")
def test_a_port_of_another_host_may_be_connected_to(lone: LoneAgent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        action = {"host": "127.0.0.1", "port": listening.getsockname()[1]}
        probe = every_second(tcpSocket=action, timeoutSeconds=10)
        with lone.running(static_pod("far", container={"readinessProbe": probe}, hostNetwork=False)):
            listening.accept()[0].close()
            lone.wait_status("far", is_ready)


@covers("Probe.grpc", "GRPCAction.port", "GRPCAction.service")
def test_a_service_that_says_it_serves_is_success(lone: LoneAgent) -> None:
    with health_server() as (port, services):
        services[""] = NOT_SERVING
        pod = static_pod("rpc", ["sleep", "3600"], ["sleep", "3600"])
        for container, action in zip(
            pod["spec"]["containers"], ({"port": port}, {"port": port, "service": "plant.Pump"}), strict=True
        ):
            container["readinessProbe"] = every_second(grpc=action, timeoutSeconds=10, failureThreshold=1)
        with lone.running(pod, until=is_unready):
            wait_event(lone, "rpc", "Unhealthy", "Readiness probe failed", "NOT_SERVING")
            wait_event(lone, "rpc", "Unhealthy", "Readiness probe failed", "NotFound")
            services["plant.Pump"] = SERVING
            lone.wait_status("rpc", lambda status: [c["ready"] for c in by_name(status)] == [True, False])
            services[""] = SERVING
            lone.wait_status("rpc", is_ready)
            services["plant.Pump"] = NOT_SERVING
            lone.wait_status("rpc", lambda status: [c["ready"] for c in by_name(status)] == [False, True])
