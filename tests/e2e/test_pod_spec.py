"""The fields of a PodSpec on a real Podman: names, namespaces, order, ends and pulls.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.cluster import Seen, containers
from tests.support.lone import LoneAgent, config_map, has_phase, is_running, lone_agent, static_pod
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.podtable import covers
from tests.support.registry import Registry
from tests.support.waiting import wait_for

LOGIN = base64.b64encode(b"robot:hush").decode()


class FrontDoor(ThreadingHTTPServer):
    """Before a registry: it asks for a login, and lets nobody to ``slow`` images until ``opened``."""

    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.registry = registry
        self.asked = Event()
        self.opened = Event()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Forward(BaseHTTPRequestHandler):
    server: FrontDoor

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer as the registry does, once the caller may be answered."""
        if self.headers.get("Authorization") != f"Basic {LOGIN}":
            self._answer(401, {"WWW-Authenticate": 'Basic realm="test"'}, b"")
            return
        if "/slow/" in self.path:
            self.server.asked.set()
            self.server.opened.wait(60)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.registry.port, timeout=10)
        try:
            accept = ", ".join(self.headers.get_all("Accept") or ["*/*"])
            connection.request(self.command, self.path, headers={"Accept": accept})
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k in ("Content-Type", "Docker-Content-Digest")}
            self._answer(answer.status, kept, answer.read())
        finally:
            connection.close()

    do_HEAD = do_GET

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture(scope="module")
def door(registry: Registry) -> Iterator[FrontDoor]:
    """A registry that asks for a login, on a port of its own."""
    with FrontDoor(registry) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.opened.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService, registry: Registry, door: FrontDoor) -> Iterator[PodmanService]:
    """One that speaks plain HTTP with both doors; ``private`` and ``slow/image`` are behind the second."""
    with PodmanService(insecure_registries=[registry.address, door.address]) as service:
        service.import_busybox()
        for name in ("private:1", "slow/image:1"):
            service.run("push", "--quiet", BUSYBOX_TAG, f"{registry.address}/{name}")
        yield service


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled."""
    with lone_agent(tmp_path_factory.mktemp("lone"), podman) as agent:
        yield agent


def shared(folder: Path) -> dict[str, Any]:
    """The ``volumes`` of a pod that has ``folder`` of the node."""
    return {"volumes": [{"name": "shared", "hostPath": {"path": str(folder)}}]}


MOUNTED = {"volumeMounts": [{"name": "shared", "mountPath": "/d"}]}
ENDLESS = "while :; do sleep 0.1; done"


def part(name: str, script: str, **fields: object) -> dict[str, Any]:
    """A container that runs ``script`` with the pod's folder as ``/d``."""
    return {"name": name, "image": BUSYBOX_TAG, "command": ["sh", "-c", script], **MOUNTED, **fields}


def made(lone: LoneAgent, pod: str) -> list[Seen]:
    """The containers of the manifest's pod, in whatever state."""
    return [seen for seen in containers(lone.podman) if seen.pod == lone.full_name(pod)]


def waiting(status: dict[str, Any]) -> dict[str, Any]:
    """What the first container waits for, where that is an error; else empty."""
    for one in status.get("containerStatuses", []):
        found: dict[str, Any] = one["state"].get("waiting") or {}
        if found.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return found
    return {}


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of the pod; empty where it has none of that type."""
    return next((one for one in pod["status"].get("conditions", []) if one["type"] == kind), {})


def resolver(text: str) -> dict[str, list[str]]:
    """A ``resolv.conf``: the words after each keyword, of all its lines."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if words := line.split("#")[0].split():
            found.setdefault(words[0], []).extend(words[1:])
    return found


def hosts(text: str) -> list[list[str]]:
    """The lines of an ``/etc/hosts``: an address, and its names."""
    return [words for line in text.splitlines() if (words := line.split("#")[0].split())]


# Names


@covers("PodSpec.hostname", "PodSpec.subdomain", "PodSpec.hostAliases", "HostAlias.ip", "HostAlias.hostnames")
def test_a_pods_name_and_its_hosts_file(lone: LoneAgent) -> None:
    aliases = [
        {"ip": "10.1.2.3", "hostnames": ["foo.local", "bar.local"]},
        {"ip": "10.1.2.4", "hostnames": ["x"]},
    ]
    pod = static_pod("named", hostNetwork=False, hostname="busy", subdomain="sub", hostAliases=aliases)
    with lone.running(pod) as seen:
        assert lone.exec("named", "hostname").stdout == "busy\n"
        lines = hosts(lone.exec("named", "cat", "/etc/hosts").stdout)
        assert [seen["status"]["podIP"], "busy.sub.default.svc.cluster.local", "busy"] in lines
        assert ["10.1.2.3", "foo.local", "bar.local"] in lines
        assert ["10.1.2.4", "x"] in lines


@covers("PodSpec.hostnameOverride", "PodSpec.setHostnameAsFQDN")
def test_other_ways_to_a_hostname(lone: LoneAgent) -> None:
    override = static_pod("override", hostNetwork=False, hostnameOverride="over.example.org")
    with lone.running(override):
        assert lone.exec("override", "hostname").stdout == "over.example.org\n"
        assert "cluster.local" not in lone.exec("override", "cat", "/etc/hosts").stdout
    whole = static_pod("whole", hostNetwork=False, hostname="busy", subdomain="sub", setHostnameAsFQDN=True)
    with lone.running(whole):
        assert lone.exec("whole", "hostname").stdout == "busy.sub.default.svc.cluster.local\n"
    long = static_pod("long", hostNetwork=False, hostname="h" * 40, subdomain="sub", setHostnameAsFQDN=True)
    with lone.running(
        long, until=lambda _: any("too long" in e["message"] for e in lone.events("long"))
    ) as pod:
        assert pod["status"]["phase"] == "Pending"
        assert not made(lone, "long")
    plain = static_pod("plain", hostNetwork=False)
    with lone.running(plain):
        assert lone.exec("plain", "hostname").stdout == f"{lone.full_name('plain')}\n"


@covers(
    "PodSpec.dnsPolicy",
    "PodSpec.dnsConfig",
    "PodDNSConfig.nameservers",
    "PodDNSConfig.searches",
    "PodDNSConfig.options",
    "PodDNSConfigOption.name",
    "PodDNSConfigOption.value",
)
def test_the_resolver_is_the_policys_and_the_configs(lone: LoneAgent) -> None:
    config = {
        "nameservers": ["192.0.2.1"],
        "searches": ["ns1.svc.example", "my.dns.example"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    with lone.running(static_pod("dns", dnsPolicy="None", dnsConfig=config)):
        assert resolver(lone.exec("dns", "cat", "/etc/resolv.conf").stdout) == {
            "nameserver": ["192.0.2.1"],
            "search": ["ns1.svc.example", "my.dns.example"],
            "options": ["ndots:2", "edns0"],
        }
    nodes = resolver(Path("/etc/resolv.conf").read_text())
    with lone.running(static_pod("dns", dnsPolicy="Default", dnsConfig={"searches": ["more.example"]})):
        found = resolver(lone.exec("dns", "cat", "/etc/resolv.conf").stdout)
        assert found.get("nameserver") == nodes.get("nameserver")
        assert found["search"] == [*nodes.get("search", []), "more.example"]


# Namespaces


@covers("PodSpec.hostNetwork", "PodSpec.hostPID", "PodSpec.hostIPC", "PodSpec.hostUsers")
def test_namespaces_of_the_node(lone: LoneAgent) -> None:
    kinds = ("net", "pid", "ipc", "user")
    nodes = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}

    def seen(name: str) -> dict[str, str]:
        return {kind: lone.exec(name, "readlink", f"/proc/self/ns/{kind}").stdout.strip() for kind in kinds}

    with lone.running(static_pod("theirs", hostPID=True, hostIPC=True, hostUsers=True)) as pod:
        assert seen("theirs") == nodes
        assert pod["status"]["podIP"] == pod["status"]["hostIP"]
        assert lone.exec("theirs", "hostname").stdout.strip() == socket.gethostname()
    with lone.running(static_pod("ours", hostNetwork=False)) as pod:
        found = seen("ours")
        assert {kind for kind in kinds if found[kind] == nodes[kind]} == {"user"}
        assert pod["status"]["podIP"] != pod["status"]["hostIP"]
    alone = static_pod("alone", hostUsers=False)
    with lone.running(alone, until=lambda status: condition({"status": status}, "Accepted")) as pod:
        assert "spec.hostUsers" in condition(pod, "Accepted")["message"]
        assert not made(lone, "alone")


@covers("PodSpec.shareProcessNamespace", "PodSpec.containers")
def test_containers_see_each_others_processes_if_they_share_them(lone: LoneAgent) -> None:
    commands = (["sleep", "1111"], ["sleep", "2222"])
    with lone.running(static_pod("apart", *commands)):
        assert "sleep 2222" not in lone.exec("apart", "ps").stdout
        assert "sleep 1111" not in lone.exec("apart", "ps", container="c1").stdout
    with lone.running(static_pod("together", *commands, shareProcessNamespace=True)):
        for container in ("main", "c1"):
            listed = lone.exec("together", "ps", container=container).stdout
            assert "sleep 1111" in listed
            assert "sleep 2222" in listed
        assert "sleep" not in lone.exec("together", "cat", "/proc/1/cmdline").stdout


# Who and where it is


@covers("PodSpec.nodeName", "PodSpec.serviceAccountName", "PodSpec.os", "PodOS.name")
def test_the_node_the_account_and_the_system(lone: LoneAgent) -> None:
    fields = {"NODE": "spec.nodeName", "ACCOUNT": "spec.serviceAccountName"}
    env = [{"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in fields.items()]
    pod = static_pod("where", container={"env": env}, serviceAccountName="robot", os={"name": "linux"})
    with lone.running(pod) as seen:
        assert seen["spec"]["nodeName"] == lone.node
        assert lone.exec("where", "sh", "-c", "echo $NODE $ACCOUNT").stdout == f"{lone.node} robot\n"
    windows = static_pod("other", os={"name": "windows"})
    with lone.running(windows, until=lambda status: condition({"status": status}, "Accepted")) as seen:
        assert "spec.os" in condition(seen, "Accepted")["message"]
        assert not made(lone, "other")


# The order of containers


@covers("PodSpec.initContainers", "PodSpec.volumes")
def test_init_containers_run_one_after_another_before_the_others(lone: LoneAgent, tmp_path: Path) -> None:
    inits = [part(name, f"sleep 0.3; echo {name} >> /d/log") for name in ("one", "two")]
    main = part("main", f"echo main >> /d/log; {ENDLESS}")
    pod = static_pod("inits", containers=[main], initContainers=inits, **shared(tmp_path))
    with lone.running(pod) as seen:
        wait_for(lambda: "main" in (tmp_path / "log").read_text(), 10, "the main container")
        assert (tmp_path / "log").read_text() == "one\ntwo\nmain\n"
        ends = [one["state"]["terminated"] for one in seen["status"]["initContainerStatuses"]]
        assert [(end["exitCode"], end["reason"]) for end in ends] == [(0, "Completed")] * 2
        assert condition(seen, "Initialized")["status"] == "True"


def test_a_failed_init_container_fails_a_pod_that_never_restarts(lone: LoneAgent, tmp_path: Path) -> None:
    inits = [part("one", "exit 3"), part("two", "echo two >> /d/log")]
    main = part("main", "echo main >> /d/log")
    pod = static_pod(
        "failing", containers=[main], initContainers=inits, restartPolicy="Never", **shared(tmp_path)
    )
    with lone.running(pod, until=has_phase("Failed")) as seen:
        assert seen["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
        assert condition(seen, "Initialized")["status"] == "False"
        assert not (tmp_path / "log").exists()


def test_a_sidecar_starts_before_the_others_and_ends_after_them(lone: LoneAgent, tmp_path: Path) -> None:
    ending = "trap '{0}echo {1} ends >> /d/log; exit 0' TERM; echo {1} >> /d/log; {2}"
    sidecar = part(
        "sidecar",
        ending.format("", "sidecar", f"touch /d/up; {ENDLESS}"),
        restartPolicy="Always",
        startupProbe={"exec": {"command": ["test", "-e", "/d/up"]}, "periodSeconds": 1},
    )
    main = part("main", ending.format("sleep 1; ", "main", ENDLESS))
    pod = static_pod(
        "aided",
        containers=[main],
        initContainers=[sidecar],
        terminationGracePeriodSeconds=20,
        **shared(tmp_path),
    )
    log = tmp_path / "log"
    with lone.running(pod):
        wait_for(lambda: log.exists() and "main" in log.read_text(), 10, "the main container")
    assert log.read_text() == "sidecar\nmain\nmain ends\nsidecar ends\n"


# Ends


@covers("PodSpec.restartPolicy")
def test_what_becomes_of_a_container_that_ends(lone: LoneAgent, tmp_path: Path) -> None:
    once = "test -e /d/{0} || {{ touch /d/{0}; exit 1; }}; {1}"
    for policy, phase, script in (
        ("Never", "Failed", once.format("never", "exit 0")),
        ("OnFailure", "Succeeded", once.format("onfailure", "exit 0")),
    ):
        pod = static_pod("ends", containers=[part("main", script)], restartPolicy=policy, **shared(tmp_path))
        with lone.running(pod, until=has_phase(phase)) as seen:
            (status,) = seen["status"]["containerStatuses"]
            assert status["restartCount"] == (policy == "OnFailure")
    script = "test -e /d/always || { touch /d/always; exit 0; }; sleep 3600"
    pod = static_pod("ends", containers=[part("main", script)], restartPolicy="Always", **shared(tmp_path))
    with lone.running(
        pod, until=lambda status: is_running(status) and status["containerStatuses"][0]["restartCount"] == 1
    ) as seen:
        assert seen["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 0


@covers("PodSpec.activeDeadlineSeconds")
def test_a_pod_that_takes_too_long_fails(lone: LoneAgent) -> None:
    with lone.running(static_pod("late", activeDeadlineSeconds=2), until=has_phase("Failed")) as pod:
        assert pod["status"]["reason"] == "DeadlineExceeded"
        wait_for(
            lambda: all(seen.state != "running" for seen in made(lone, "late")),
            20,
            "its container to end",
        )


@covers("PodSpec.terminationGracePeriodSeconds")
def test_a_container_has_its_time_to_end_and_no_more(lone: LoneAgent, tmp_path: Path) -> None:
    slow = part(
        "main",
        f"trap 'echo told >> /d/slow; sleep 2; echo done >> /d/slow; exit' TERM; touch /d/up; {ENDLESS}",
    )
    pod = static_pod("slow", containers=[slow], terminationGracePeriodSeconds=25, **shared(tmp_path))
    with lone.running(pod):
        wait_for((tmp_path / "up").exists, 10, "the trap")
    assert (tmp_path / "slow").read_text() == "told\ndone\n"


def test_a_container_that_ignores_sigterm_is_killed(lone: LoneAgent, tmp_path: Path) -> None:
    deaf = part("main", f"trap 'echo told >> /d/deaf' TERM; touch /d/up; {ENDLESS}")
    pod = static_pod("deaf", containers=[deaf], terminationGracePeriodSeconds=1, **shared(tmp_path))
    with lone.running(pod):
        wait_for((tmp_path / "up").exists, 10, "the trap")
    assert (tmp_path / "deaf").read_text() == "told\n"


# What cannot run


def test_a_pod_with_a_refused_field_is_not_run_and_says_why(lone: LoneAgent) -> None:
    volume = {"name": "far", "nfs": {"server": "192.0.2.1", "path": "/"}}
    pod = static_pod("refused", volumes=[volume])
    with lone.running(pod, until=lambda status: condition({"status": status}, "Accepted")) as seen:
        accepted = condition(seen, "Accepted")
        assert (accepted["status"], accepted["reason"]) == ("False", "FieldNotSupported")
        assert "spec.volumes[0].nfs" in accepted["message"]
        wait_for(
            lambda: any(
                (event["type"], event["reason"]) == ("Warning", "FieldNotSupported")
                and "spec.volumes[0].nfs" in event["message"]
                for event in lone.events("refused")
            ),
            10,
            "the event",
        )
        assert not made(lone, "refused")


def test_a_pod_waits_for_its_config_map_and_says_so(lone: LoneAgent) -> None:
    pod = static_pod("early", container={"envFrom": [{"configMapRef": {"name": "to-come"}}]})
    with lone.running(pod, until=waiting) as seen:
        found = waiting(seen["status"])
        assert found["reason"] == "CreateContainerConfigError"
        assert "to-come" in found["message"]
        lone.write("to-come", config_map("to-come", COLOUR="blue"))
        lone.wait_status("early", is_running)
        assert lone.exec("early", "sh", "-c", "echo $COLOUR").stdout == "blue\n"
    lone.remove("to-come")


def test_an_image_that_does_not_exist_is_named(lone: LoneAgent, registry: Registry) -> None:
    image = f"{registry.address}/nothing:1"
    pod = static_pod("absent", container={"image": image})
    with lone.running(pod, until=waiting) as seen:
        found = waiting(seen["status"])
        assert found["reason"] in ("ErrImagePull", "ImagePullBackOff")
        assert image in found["message"]
        assert seen["status"]["phase"] == "Pending"
        wait_for(lambda: any(image in event["message"] for event in lone.events("absent")), 10, "the event")


def test_a_command_that_does_not_exist_is_named(lone: LoneAgent) -> None:
    pod = static_pod("wrong", ["/no/such/program"], restartPolicy="Never")
    with lone.running(pod, until=has_phase("Failed")) as seen:
        end = seen["status"]["containerStatuses"][0]["state"]["terminated"]
        assert end["reason"] in ("StartError", "ContainerCannotRun")
        assert end["exitCode"] != 0
        assert "/no/such/program" in end["message"]


# Pulls


def login(name: str, address: str) -> dict[str, Any]:
    """A Secret with the login of the registry."""
    config = json.dumps({"auths": {address: {"auth": LOGIN}}})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config},
    }


@covers("PodSpec.imagePullSecrets", "LocalObjectReference.name")
def test_a_private_image_is_pulled_with_the_named_secret(lone: LoneAgent, door: FrontDoor) -> None:
    private = {"image": f"{door.address}/private:1"}
    with lone.running(
        static_pod("shut", container=private), login("key", door.address), until=waiting
    ) as seen:
        assert waiting(seen["status"])["reason"] in ("ErrImagePull", "ImagePullBackOff")
    opened = static_pod("opened", container=private, imagePullSecrets=[{"name": "key"}])
    with lone.running(opened, login("key", door.address)):
        assert lone.inspect("opened")["ImageName"] == private["image"]


@contextmanager
def held(door: FrontDoor) -> Iterator[None]:
    """Let go whoever asks for a slow image, at the latest when the block ends."""
    door.asked.clear()
    door.opened.clear()
    try:
        yield
    finally:
        door.opened.set()


def test_a_pod_is_deleted_while_its_image_is_pulled(lone: LoneAgent, door: FrontDoor) -> None:
    pod = static_pod(
        "hasty",
        container={"image": f"{door.address}/slow/image:1"},
        imagePullSecrets=[{"name": "key"}],
    )
    with held(door):
        lone.write("hasty", [login("key", door.address), pod])
        assert door.asked.wait(20)
        assert not made(lone, "hasty")
        lone.remove("hasty")
        lone.wait_gone("hasty")
        assert not door.opened.is_set()
    with lone.running(static_pod("after")):
        assert not made(lone, "hasty")
