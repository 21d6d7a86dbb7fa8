"""The fields of containers on a real Podman: image, command, limits, input, messages and ports.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container
"""

import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import containers
from tests.support.lone import LoneAgent, config_map, has_ended, is_running, lone_agent, static_pod
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.podtable import covers
from tests.support.proc import free_port
from tests.support.registry import Registry
from tests.support.volumepods import waits_for

MIB = 1024 * 1024
PARROT = "localhost/parrot:1"
"""An image that says ``entry cmd`` unless told otherwise, in ``/etc``."""
PIDS = 321
NOBODY = 65534
SLEEP = ["sleep", "3600"]


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService, registry: Registry) -> Iterator[PodmanService]:
    """For the whole module, since its tests share an agent; it speaks with the registry."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled, which limits the processes of each container."""
    with lone_agent(tmp_path_factory.mktemp("lone"), podman, extra=f"pids_limit = {PIDS}\n") as agent:
        yield agent


@pytest.fixture(scope="module")
def parrot(podman: PodmanService) -> Iterator[str]:
    """The name of an image with an entry point, arguments and a folder to work in."""
    yield changed_image(podman, PARROT, 'ENTRYPOINT ["echo","entry"]', 'CMD ["cmd"]', "WORKDIR /etc")
    podman.run("rmi", PARROT)


def changed_image(podman: PodmanService, name: str, *changes: str) -> str:
    """Make the busybox image with other settings (lines of a Dockerfile) and return its ``name``."""
    base = podman.run("create", "--network", "none", BUSYBOX_TAG).stdout.strip()
    options = [word for change in changes for word in ("--change", change)]
    podman.run("commit", "--quiet", *options, base, name)
    podman.run("rm", base)
    return name


def part(name: str, *command: str, **fields: object) -> dict[str, Any]:
    """A container; without a command, the image's own runs."""
    return {"name": name, "image": BUSYBOX_TAG, **({"command": list(command)} if command else {}), **fields}


def by_name(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The statuses of a pod's containers."""
    return {one["name"]: one for one in status.get("containerStatuses", [])}


def in_state(container: str, state: str) -> Callable[[dict[str, Any]], bool]:
    """Whether a container is ``waiting``, ``running`` or ``terminated``."""
    return lambda status: state in by_name(status).get(container, {"state": {}})["state"]


def end(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """How a container ended."""
    found: dict[str, Any] = by_name(pod["status"])[container]["state"]["terminated"]
    return found


# What runs


@covers("Container.name", "Container.image", "Container.command", "Container.args", "Container.workingDir")
def test_command_and_args_take_the_place_of_the_images(lone: LoneAgent, parrot: str) -> None:
    """The table of https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/"""
    own: dict[str, Any] = {"image": parrot}
    env = [{"name": "WHO", "value": "two words"}]
    pod = static_pod(
        "parrot",
        restartPolicy="Never",
        containers=[
            part("neither", **own),
            part("args", **own, args=["arg"]),
            part("command", "echo", "own", **own),
            part("both", "echo", "own", **own, args=["arg"]),
            part(
                "names", "echo", "$(WHO)", "$$(WHO)", **own, env=env, args=["<$(WHO)>", "$(NOBODY)", "$WHO"]
            ),
            part("here", "pwd", **own),
            part("there", "pwd", **own, workingDir="/new/folder"),
        ],
    )
    with lone.running(pod, until=has_ended) as seen:
        assert seen["status"]["phase"] == "Succeeded"
        statuses = by_name(seen["status"])
        assert list(statuses) == [one["name"] for one in pod["spec"]["containers"]]
        assert {one["image"] for one in statuses.values()} == {parrot}
        assert {name: lone.logs("parrot", name).strip() for name in statuses} == {
            "neither": "entry cmd",
            "args": "entry arg",
            "command": "own",
            "both": "own arg",
            "names": "two words $(WHO) <two words> $(NOBODY) $WHO",
            "here": "/etc",
            "there": "/new/folder",
        }


@covers("Container.imagePullPolicy")
def test_the_pull_policy_says_whether_the_registry_is_asked(
    lone: LoneAgent, podman: PodmanService, registry: Registry
) -> None:
    tagged, untagged = f"{registry.address}/moving:1", f"{registry.address}/moving"

    def publish(version: str) -> None:
        local = changed_image(podman, "localhost/moving:1", f"ENV VERSION={version}")
        for target in (tagged, untagged):
            podman.run("push", "--quiet", local, target)

    def versions(**policies: tuple[str, str]) -> dict[str, str]:
        """What runs in a pod with a container for each image and policy."""
        show = ["sh", "-c", "echo $VERSION"]
        listed = [
            part(name, *SLEEP, image=image, **({"imagePullPolicy": policy} if policy else {}))
            for name, (image, policy) in policies.items()
        ]
        with lone.running(static_pod("moving", containers=listed)):
            return {name: lone.exec("moving", *show, container=name).stdout.strip() for name in policies}

    publish("one")
    never = static_pod("moving", container={"image": tagged, "imagePullPolicy": "Never"})
    with lone.running(never, until=waits_for("ErrImageNeverPull")) as seen:
        assert tagged in seen["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert set(versions(absent=(tagged, "IfNotPresent"), always=(untagged, "")).values()) == {"one"}
    publish("two")
    present = {"present": (tagged, "IfNotPresent"), "default": (tagged, ""), "never": (tagged, "Never")}
    assert set(versions(**present).values()) == {"one"}
    assert set(versions(always=(tagged, "Always"), latest=(untagged, "")).values()) == {"two"}
    assert set(versions(**present).values()) == {"two"}, "what was pulled is present"


@covers("Container.restartPolicy")
def test_a_containers_own_restart_policy_goes_before_the_pods(lone: LoneAgent) -> None:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#individual-container-restart-policy-and-rules"""

    def settled(status: dict[str, Any]) -> bool:
        """``again`` is listed last: the others, which ended before it did, have been left alone."""
        seen = by_name(status)
        return bool(seen) and seen["again"]["restartCount"] > 0 and "terminated" in seen["never"]["state"]

    def counts(pod: dict[str, Any]) -> dict[str, bool]:
        return {name: one["restartCount"] > 0 for name, one in by_name(pod["status"]).items()}

    listed = [
        part("never", "false", restartPolicy="Never"),
        part("good", "true", restartPolicy="OnFailure"),
        part("again", "true"),
    ]
    with lone.running(static_pod("always", containers=listed), until=settled) as seen:
        assert counts(seen) == {"never": False, "good": False, "again": True}
        assert (end(seen, "never")["exitCode"], end(seen, "good")["exitCode"]) == (1, 0)
        assert seen["status"]["phase"] == "Running"
    listed = [
        part("never", "false"),
        part("good", "true", restartPolicy="OnFailure"),
        part("again", "false", restartPolicy="OnFailure"),
    ]
    with lone.running(static_pod("never", containers=listed, restartPolicy="Never"), until=settled) as seen:
        assert counts(seen) == {"never": False, "good": False, "again": True}
        assert seen["status"]["phase"] == "Running"


@covers("Container.volumeMounts", "Container.securityContext")
def test_mounts_and_security_are_each_containers_own(lone: LoneAgent) -> None:
    mounted = {"volumeMounts": [{"name": "files", "mountPath": "/files"}]}
    pod = static_pod(
        "apart",
        containers=[
            part("with", *SLEEP, **mounted, securityContext={"runAsUser": NOBODY}),
            part("without", *SLEEP),
        ],
        volumes=[{"name": "files", "configMap": {"name": "files"}}],
    )
    with lone.running(pod, config_map("files", a="b")):
        assert lone.exec("apart", "cat", "/files/a", container="with").stdout == "b"
        assert lone.exec("apart", "ls", "/files", container="without", check=False).returncode != 0
        users = [lone.exec("apart", "id", "-u", container=name).stdout for name in ("with", "without")]
        assert users == [f"{NOBODY}\n", "0\n"]


# Resources


def cgroup(pid: int, controller: str, v1: str, v2: str) -> str:
    """What the kernel holds for the cgroup of a process: the file ``v1`` or ``v2``, by its version."""
    root = Path("/sys/fs/cgroup")
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return (root / controllers / path.lstrip("/") / v1).read_text().strip()
        if not controllers and (root / "cgroup.controllers").exists():
            return (root / path.lstrip("/") / v2).read_text().strip()
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")


def limits(lone: LoneAgent, pod: str, container: str) -> dict[str, Any]:
    """A container's cores, bytes of memory and processes, as the kernel limits them, and its CPU weight."""
    pid = int(lone.inspect(pod, container)["State"]["Pid"])
    quota = cgroup(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]
    memory = cgroup(pid, "memory", "memory.limit_in_bytes", "memory.max")
    return {
        "cpu": int(quota) / 100_000 if quota not in ("max", "-1") else None,
        "memory": int(memory) if memory != "max" and int(memory) < 2**60 else None,
        "pids": int(cgroup(pid, "pids", "pids.max", "pids.max")),
        "weight": int(cgroup(pid, "cpu", "cpu.shares", "cpu.weight")),
    }


@covers("Container.resources", "ResourceRequirements.limits", "ResourceRequirements.requests")
def test_limits_and_requests_reach_the_kernel(lone: LoneAgent) -> None:
    pod = static_pod(
        "limited",
        containers=[
            part("both", *SLEEP, resources={
                "limits": {"cpu": "500m", "memory": "48Mi", "ephemeral-storage": "50Mi"},
                "requests": {"cpu": "250m", "memory": "16Mi"},
            }),
            part("limits", *SLEEP, resources={"limits": {"cpu": 1, "memory": "32Mi"}}),
            part("requests", *SLEEP, resources={"requests": {"cpu": "2", "memory": "1Gi"}}),
            part("nothing", *SLEEP),
        ],
    )  # fmt: skip

    def shares(milli: int) -> int:
        number = max(2, milli * 1024 // 1000)
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        return 1 + (number - 2) * 9999 // 262142 if unified else number

    with lone.running(pod) as seen:
        assert {one["name"]: limits(lone, "limited", one["name"]) for one in pod["spec"]["containers"]} == {
            "both": {"cpu": 0.5, "memory": 48 * MIB, "pids": PIDS, "weight": shares(250)},
            "limits": {"cpu": 1.0, "memory": 32 * MIB, "pids": PIDS, "weight": shares(1000)},
            "requests": {"cpu": None, "memory": None, "pids": PIDS, "weight": shares(2000)},
            "nothing": {"cpu": None, "memory": None, "pids": PIDS, "weight": shares(0)},
        }
        assert seen["status"]["qosClass"] == "Burstable"
        # Who requests less of the node's memory is killed first when there is none left.
        scores = {
            name: int(lone.exec("limited", "cat", "/proc/1/oom_score_adj", container=name).stdout)
            for name in ("both", "requests", "nothing")
        }
        capacity = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert scores["requests"] == pytest.approx(1000 - 1000 * 1024 * MIB / capacity, abs=1)
        assert scores["requests"] < scores["both"] <= scores["nothing"] == 999


def test_what_needs_more_memory_than_its_limit_is_killed(lone: LoneAgent, podman: PodmanService) -> None:
    greedy = part("main", "tail", "/dev/zero", resources={"limits": {"memory": "24Mi"}})
    with lone.running(
        static_pod("greedy", containers=[greedy], restartPolicy="Never"), until=has_ended
    ) as seen:
        assert seen["status"]["phase"] == "Failed"
        known = lone.inspect("greedy")["State"]["OOMKilled"]
        # Podman 4's monitor leaves its mark where the service was started, which is not where Podman looks.
        assert known or podman.run("--version").stdout.split()[-1].startswith("4.")
        assert end(seen, "main")["exitCode"] == 137
        assert end(seen, "main")["reason"] == ("OOMKilled" if known else "Error")


# Input and terminal


@covers("Container.stdin", "Container.stdinOnce")
def test_input_is_at_its_end_unless_it_is_asked_for(lone: LoneAgent, podman: PodmanService) -> None:
    listed = [part("shut", "cat"), part("open", "cat", stdin=True, stdinOnce=True)]
    pod = static_pod("input", containers=listed, restartPolicy="Never")
    with lone.running(pod, until=in_state("shut", "terminated")) as seen:
        assert end(seen, "shut")["reason"] == "Completed"
        lone.wait_status("input", in_state("open", "running"))
        # The first who attaches and leaves takes the input along.
        attached = [*podman.argv, "attach", lone.container("input", "open").id]
        spoken = subprocess.run(
            attached, env=podman.env, input="hello\n", capture_output=True, text=True, timeout=30, check=True
        )
        assert spoken.stdout.split() == ["hello"]
        assert end(lone.wait_status("input", has_ended), "open")["reason"] == "Completed"
        assert lone.logs("input", "open") == "hello\n"


@covers("Container.tty")
def test_a_terminal_is_there_if_it_is_asked_for(lone: LoneAgent) -> None:
    script = "for n in 0 1 2; do test -t $n && echo yes || echo no; done"
    listed = [part("plain", "sh", "-c", script), part("terminal", "sh", "-c", script, stdin=True, tty=True)]
    with lone.running(static_pod("screen", containers=listed, restartPolicy="Never"), until=has_ended):
        assert lone.logs("screen", "plain").split() == ["no"] * 3
        assert lone.logs("screen", "terminal").split() == ["yes"] * 3


# The last words


@covers("Container.terminationMessagePath", "Container.terminationMessagePolicy")
def test_the_last_words_of_a_container_are_in_its_status(lone: LoneAgent) -> None:
    """https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/"""
    fall_back = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    listed = [
        part("file", "sh", "-c", "echo log; printf why > /dev/termination-log; exit 1"),
        part("path", "sh", "-c", "printf there > /my/reason", terminationMessagePath="/my/reason"),
        part("silent", "sh", "-c", "echo log; exit 1"),
        part("log", "sh", "-c", "echo log >&2; exit 1", **fall_back),
        part("success", "sh", "-c", "echo log", **fall_back),
        part("preferred", "sh", "-c", "echo log; printf file > /dev/termination-log; exit 1", **fall_back),
    ]
    with lone.running(static_pod("words", containers=listed, restartPolicy="Never"), until=has_ended) as seen:
        assert {one["name"]: end(seen, one["name"]).get("message", "") for one in listed} == {
            "file": "why",
            "path": "there",
            "silent": "",
            "log": "log\n",
            "success": "",
            "preferred": "file",
        }


def test_last_words_have_an_end(lone: LoneAgent) -> None:
    fall_back = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    listed = [
        part("long", "sh", "-c", "yes | head -n 5000 > /dev/termination-log"),
        part("lines", "sh", "-c", "seq 1 200; exit 1", **fall_back),
        part("bytes", "sh", "-c", "seq -s , 1 5000; exit 1", **fall_back),
    ]
    with lone.running(
        static_pod("endless", containers=listed, restartPolicy="Never"), until=has_ended
    ) as seen:
        assert len(end(seen, "long")["message"]) == 4096
        assert end(seen, "lines")["message"].split() == [str(number) for number in range(121, 201)]
        message = end(seen, "bytes")["message"]
        assert len(message) == 2048
        assert message.endswith(",4999,5000\n")


# Ports


def page(address: str, port: int) -> str:
    """What a web server answers."""
    with urllib.request.urlopen(f"http://{address}:{port}/page", timeout=10) as answer:
        return str(answer.read().decode())


def web(name: str, port: int, *ports: dict[str, Any], **fields: object) -> dict[str, Any]:
    """A container that serves its name under ``/page`` at ``port``, and is ready once it does."""
    script = f"mkdir /www; printf {name} > /www/page; exec httpd -f -p {port} -h /www"
    probe = {"httpGet": {"path": "/page", "port": port}, "periodSeconds": 1}
    return part(name, "sh", "-c", script, ports=list(ports), **{"readinessProbe": probe, **fields})


def is_ready(status: dict[str, Any]) -> bool:
    """Whether all containers of a pod are ready."""
    return is_running(status) and all(one["ready"] for one in status["containerStatuses"])


@covers("Container.ports", "ContainerPort.containerPort", "ContainerPort.name", "ContainerPort.protocol")
def test_ports_tell_what_is_listened_on_and_shut_out_nothing(lone: LoneAgent) -> None:
    told = [
        {"containerPort": 8080, "name": "http", "protocol": "TCP"},
        {"containerPort": 8080, "name": "quic", "protocol": "UDP"},
    ]
    named = {"readinessProbe": {"httpGet": {"path": "/page", "port": "http"}, "periodSeconds": 1}}
    pod = static_pod("ports", containers=[web("told", 8080, *told, **named), web("untold", 8081)])
    with lone.running({**pod, "spec": {**pod["spec"], "hostNetwork": False}}, until=is_ready) as seen:
        address = seen["status"]["podIP"]
        assert (page(address, 8080), page(address, 8081)) == ("told", "untold")


@pytest.mark.parametrize(
    ("ports", "place"),
    [
        ([{"containerPort": 0}], "ports[0].containerPort"),
        ([{"containerPort": 8080, "protocol": "ICMP"}], "ports[0].protocol"),
        ([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}], "ports[1].name"),
        ([{"containerPort": 8080, "hostPort": 8081}], "ports[0].hostPort"),
    ],
)
def test_what_is_no_port_is_refused_by_its_place(
    lone: LoneAgent, ports: list[dict[str, Any]], place: str
) -> None:
    lone.refuses(static_pod("noport", container={"ports": ports}), f"spec.containers[0].{place}")


@covers("ContainerPort.hostPort")
def test_a_port_of_the_node_is_the_containers_own_on_the_nodes_network(lone: LoneAgent) -> None:
    port = free_port()
    listening = web("main", port, {"containerPort": port, "hostPort": port})
    with lone.running(static_pod("hosted", containers=[listening]), until=is_ready):
        assert page("127.0.0.1", port) == "main"


# What goes wrong


def test_a_volumes_name_may_be_used_once(lone: LoneAgent) -> None:
    volumes: list[dict[str, Any]] = [{"name": "twice", "emptyDir": {}}, {"name": "twice", "emptyDir": {}}]
    lone.refuses(static_pod("double", volumes=volumes), "spec.volumes[1].name")
    volumes[1]["name"] = "once"
    with lone.running(static_pod("double", volumes=volumes)):
        assert not lone.problems()


def test_a_pod_is_deleted_while_it_starts(lone: LoneAgent) -> None:
    """As soon as the node knows it, while its init container runs, and while it waits for a ConfigMap."""
    init = {"initContainers": [part("init", *SLEEP)]}
    missing = {"container": {"envFrom": [{"configMapRef": {"name": "never-there"}}]}}
    cases: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
        ({}, lambda _: True),
        (
            init,
            lambda status: any("running" in one["state"] for one in status.get("initContainerStatuses", [])),
        ),
        (missing, waits_for("CreateContainerConfigError")),
    ]
    for fields, until in cases:
        with lone.running(static_pod("hasty", **fields), until=until):
            pass
        assert not [one for one in containers(lone.podman) if one.pod == lone.full_name("hasty")]
    with lone.running(static_pod("hasty")):
        assert lone.container("hasty").state == "running"
