"""Lifecycle hooks and stop signals of containers on a real Podman.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lone import LoneAgent, has_phase, is_running, lone_agent, static_pod
from tests.support.podman import PodmanService
from tests.support.podtable import covers
from tests.support.probed import Answer, ProbedServer, probed_server
from tests.support.waiting import wait_for

Fields = dict[str, Any]
ENDLESS = "touch /d/up; while :; do sleep 0.1; done"
OBEDIENT = f"trap 'echo told >> /d/log; exit 0' TERM; {ENDLESS}"
DEAF = f"trap 'echo told >> /d/log' TERM; {ENDLESS}"


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the containers of ``hooked`` have as ``/d``; ``log`` is empty."""
    (tmp_path / "log").touch()
    return tmp_path


def hooked(name: str, folder: Path, script: str, lifecycle: Fields, grace: int = 30, **spec: Any) -> Fields:
    """A pod whose container runs ``script`` and has ``folder`` as ``/d``. ``grace`` is in seconds."""
    container = {"lifecycle": lifecycle, "volumeMounts": [{"name": "shared", "mountPath": "/d"}]}
    return static_pod(
        name,
        ["sh", "-c", script],
        container={**container, **spec.pop("container", {})},
        volumes=[{"name": "shared", "hostPath": {"path": str(folder)}}],
        terminationGracePeriodSeconds=grace,
        **spec,
    )


def shell(script: str) -> Fields:
    """A hook that runs a script in the container."""
    return {"exec": {"command": ["sh", "-c", script]}}


def log(folder: Path) -> list[str]:
    """What hooks and containers wrote down, in order."""
    return (folder / "log").read_text().split()


def wait_up(folder: Path) -> None:
    """Wait until the container's process has set its traps."""
    wait_for((folder / "up").exists, 20, "the container to be up")


def reasons(lone: LoneAgent, pod: str) -> list[str]:
    """The reasons of the pod's events."""
    return [event["reason"] for event in lone.events(pod)]


def main(status: Fields) -> Fields:
    """The status of the only container; empty while it has none."""
    found: Fields = next(iter(status.get("containerStatuses", [])), {})
    return found


# postStart


@covers("Container.lifecycle", "Lifecycle.postStart", "LifecycleHandler.exec")
def test_a_container_counts_as_running_once_its_post_start_hook_has_ended(
    lone: LoneAgent, web: ProbedServer, folder: Path
) -> None:
    web.always["/ready"] = Answer(200)
    get = {"host": "127.0.0.1", "port": web.port, "path": "/ready"}
    pod = hooked(
        "begun",
        folder,
        OBEDIENT,
        {"postStart": shell("echo hook >> /d/log; while ! test -e /d/go; do sleep 0.1; done")},
        container={"readinessProbe": {"httpGet": get, "periodSeconds": 1}},
    )
    with lone.running(pod, until=lambda _: log(folder)) as seen:
        # It runs beside the container's own process, not before it.
        wait_up(folder)
        assert seen["status"]["phase"] == "Pending"
        assert "waiting" in main(lone.status("begun"))["state"]
        assert web.asked == []
        (folder / "go").touch()
        lone.wait_status("begun", lambda status: is_running(status) and main(status)["ready"])
        # Each run has its own.
        lone.podman.run("kill", lone.container("begun").id)
        lone.wait_status("begun", lambda status: is_running(status) and main(status)["restartCount"] == 1)
        assert log(folder) == ["hook", "hook"]


def test_a_failed_post_start_hook_ends_the_container(lone: LoneAgent, folder: Path) -> None:
    hook = {"postStart": shell("until test -e /d/up; do sleep 0.1; done; echo hook >> /d/log; exit 3")}
    with lone.running(
        hooked("broken", folder, OBEDIENT, hook, restartPolicy="Never"), until=has_phase("Succeeded")
    ):
        assert "FailedPostStartHook" in reasons(lone, "broken")
        assert log(folder) == ["hook", "told"]
    once = {"postStart": shell("test -e /d/once || { touch /d/once; exit 3; }")}
    with lone.running(hooked("mended", folder, OBEDIENT, once)) as seen:
        assert main(seen["status"])["restartCount"] == 1
        assert reasons(lone, "mended").count("FailedPostStartHook") == 1
    missing = {"postStart": {"exec": {"command": ["/no/such/program"]}}}
    with lone.running(
        hooked("missing", folder, OBEDIENT, missing, restartPolicy="Never"),
        until=lambda status: "terminated" in main(status).get("state", {}),
    ):
        assert "FailedPostStartHook" in reasons(lone, "missing")


# preStop


@covers("Lifecycle.preStop")
def test_a_pre_stop_hook_ends_before_the_container_is_told(lone: LoneAgent, folder: Path) -> None:
    hook = {"preStop": shell("echo hook >> /d/log; sleep 1; echo done >> /d/log")}
    with lone.running(hooked("parting", folder, OBEDIENT, hook)):
        wait_up(folder)
    assert log(folder) == ["hook", "done", "told"]


def test_a_pre_stop_hook_is_for_a_container_that_is_ended_not_for_one_that_ends(
    lone: LoneAgent, folder: Path
) -> None:
    hook = {"preStop": shell("echo hook >> /d/log")}
    with lone.running(
        hooked("ending", folder, "echo end >> /d/log", hook, restartPolicy="Never"),
        until=has_phase("Succeeded"),
    ):
        pass
    assert log(folder) == ["end"]
    probe = {"exec": {"command": ["test", "!", "-e", "/d/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = f"rm -f /d/sick; {OBEDIENT}"
    pod = hooked("sick", folder, script, hook, container={"livenessProbe": probe})
    with lone.running(pod):
        wait_up(folder)
        (folder / "up").unlink()
        (folder / "sick").touch()
        lone.wait_status("sick", lambda status: is_running(status) and main(status)["restartCount"] == 1)
        assert log(folder) == ["end", "hook", "told"]
        wait_up(folder)


@pytest.mark.parametrize(("name", "seconds"), [("dawdling", 4), ("hanging", 3600)])
def test_a_pre_stop_hook_takes_of_the_grace_period(
    lone: LoneAgent, folder: Path, name: str, seconds: int
) -> None:
    hangs, grace = seconds > 60, 6
    hook = {"preStop": shell(f"echo hook >> /d/log; sleep {seconds}; echo done >> /d/log")}
    # It notes when it was still alive.
    script = DEAF.replace("sleep 0.1", "cat /proc/uptime >> /d/alive; sleep 0.1")
    with lone.running(hooked(name, folder, script, hook, grace=grace)):
        wait_up(folder)
        asked = uptime(Path("/proc/uptime"))
    lived = uptime(folder / "alive") - asked
    assert log(folder) == (["hook", "told"] if hangs else ["hook", "done", "told"])
    # A hook that takes all of it leaves the container two seconds more. Were it not counted it were ten.
    assert grace - 1 < lived < grace + 3.5
    assert ("FailedPreStopHook" in reasons(lone, name)) is hangs


def test_a_failed_pre_stop_hook_keeps_nobody_from_ending(lone: LoneAgent, folder: Path) -> None:
    hook = {"preStop": shell("echo hook >> /d/log; exit 3")}
    with lone.running(hooked("failing", folder, OBEDIENT, hook)):
        wait_up(folder)
    assert log(folder) == ["hook", "told"]
    assert "FailedPreStopHook" in reasons(lone, "failing")


# What a hook does


@covers("LifecycleHandler.httpGet")
def test_a_hook_may_be_a_request(lone: LoneAgent, web: ProbedServer, folder: Path) -> None:
    # The request matters, not the answer.
    web.always["/hello"] = Answer(500)
    get = {"host": "127.0.0.1", "port": web.port}
    headers = [{"name": "X-Why", "value": "time is up"}]
    lifecycle = {
        "postStart": {"httpGet": {**get, "path": "/hello"}},
        "preStop": {"httpGet": {**get, "path": "/bye?now=1", "httpHeaders": headers}},
    }
    with lone.running(hooked("asking", folder, OBEDIENT, lifecycle)):
        wait_up(folder)
        assert len(web.requests("/hello")) == 1
        assert "FailedPostStartHook" not in reasons(lone, "asking")
        lone.remove("default.asking")
        (bye,) = web.wait_asked("/bye")
        assert bye.path == "/bye?now=1"
        assert bye.headers["X-Why"] == "time is up"
        assert lone.container("asking").state == "running"
        assert log(folder) == []
        web.say("/bye", 404)
    assert log(folder) == ["told"]
    assert "FailedPreStopHook" not in reasons(lone, "asking")


def test_a_request_goes_to_the_named_port_of_the_pod(lone: LoneAgent, folder: Path) -> None:
    page = "#!/bin/sh\\ntouch /d/asked\\necho Content-Type: text/plain\\necho\\n"
    script = f"mkdir -p /www/cgi-bin; cd /www; printf '{page}' > cgi-bin/bye; chmod +x cgi-bin/bye"
    pod = hooked(
        "own",
        folder,
        f"{script}; exec httpd -f -p 8080 -h /www",
        {"preStop": {"httpGet": {"port": "web", "path": "/cgi-bin/bye"}}},
        grace=1,
        hostNetwork=False,
        container={
            "ports": [{"name": "web", "containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1},
        },
    )
    with lone.running(pod, until=lambda status: main(status).get("ready")):
        assert not (folder / "asked").exists()
    assert (folder / "asked").exists()


@covers("LifecycleHandler.sleep", "SleepAction.seconds")
def test_a_hook_may_be_a_pause(lone: LoneAgent, folder: Path) -> None:
    """Times are of ``/proc/uptime``, which containers have in common with the node."""
    script = f"cat /proc/uptime > /d/began; trap 'cat /proc/uptime > /d/told; exit 0' TERM; {ENDLESS}"
    lifecycle = {"postStart": {"sleep": {"seconds": 2}}, "preStop": {"sleep": {"seconds": 2}}}
    with lone.running(hooked("pausing", folder, script, lifecycle)):
        ran = uptime(Path("/proc/uptime"))
        assert ran - uptime(folder / "began") > 1.5
    assert uptime(folder / "told") - ran > 1.9
    assert "FailedPreStopHook" not in reasons(lone, "pausing")
    none = {"preStop": {"sleep": {"seconds": 0}}}
    (folder / "up").unlink()
    with lone.running(hooked("hasty", folder, OBEDIENT, none)):
        wait_up(folder)
    assert log(folder) == ["told"]


def uptime(file: Path) -> float:
    """Seconds since the node started, as the last line of ``file`` has them."""
    return float(file.read_text().splitlines()[-1].split()[0])


@covers("Lifecycle.stopSignal")
def test_a_stop_signal_takes_the_place_of_sigterm(lone: LoneAgent, folder: Path) -> None:
    script = f"trap 'echo signalled >> /d/log; exit 0' USR1; {DEAF}"
    pod = hooked("signalled", folder, script, {"stopSignal": "SIGUSR1"}, os={"name": "linux"})
    with lone.running(pod):
        wait_up(folder)
    assert log(folder) == ["signalled"]
    anywhere = hooked("anywhere", folder, script, {"stopSignal": "SIGUSR1"})
    path = lone.write("anywhere", anywhere)
    wait_for(lambda: "lifecycle.stopSignal" in lone.problems().get(str(path), ""), 10, "the refusal")
    lone.remove("anywhere")
