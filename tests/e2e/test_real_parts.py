"""The real parts that other tests stand on do what those tests take for granted."""

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from podman import PodmanClient
from podman.errors import ImageNotFound

from tests.conftest import MosquittoFactory
from tests.support.broker import Mosquitto, tls_material
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.proc import Process, ProcessError, free_port
from tests.support.registry import Registry
from tests.support.waiting import WaitTimeout, wait_for, wait_for_async


def create(client: PodmanClient, **spec: object) -> str:
    """Create and start a container of the busybox image by raw REST calls and return its id."""
    body = json.dumps({"image": BUSYBOX_TAG, "netns": {"nsmode": "host"}, **spec})
    created = client.api.post("/containers/create", data=body, headers={"Content-Type": "application/json"})
    created.raise_for_status()
    identifier = str(created.json()["Id"])
    client.api.post(f"/containers/{identifier}/start").raise_for_status()
    return identifier


def test_a_container_runs_and_ends_through_the_rest_api(podman: PodmanService) -> None:
    """Created by a raw call with cgroup limits, run, waited for, its exit status and its log read."""
    with _client(podman) as client:
        identifier = create(
            client,
            command=["sh", "-c", "echo hello; exit 3"],
            resource_limits={"memory": {"limit": 32 << 20}},
            labels={"a": "b"},
        )
        container = client.containers.get(identifier)
        assert container.wait() == 3
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 3
        assert container.labels == {"a": "b"}
    assert podman.run("logs", identifier).stdout == "hello\n"


def test_a_container_outlives_the_service(podman: PodmanService) -> None:
    """The service comes and goes; the container's process stays the same."""
    with _client(podman) as client:
        identifier = create(client, command=["sleep", "1000"])
        pid = client.containers.get(identifier).attrs["State"]["Pid"]
    podman.stop()
    assert not podman.ping()
    podman.start()
    with _client(podman) as client:
        assert client.containers.get(identifier).attrs["State"]["Pid"] == pid
    assert Path(f"/proc/{pid}").exists()


def test_storage_is_private() -> None:
    """Nothing is in it but the busybox image, and it lies where the service was told."""
    if os.geteuid() != 0:
        pytest.skip("needs root: containers with cgroup limits are started by the system's Podman")
    with PodmanService() as service:
        service.import_busybox()
        images = service.run("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
        info = json.loads(service.run("info", "--format", "json").stdout)
        assert images == [BUSYBOX_TAG]
        assert Path(info["store"]["graphRoot"]).is_relative_to(service.directory)
        assert service.run("ps", "--all", "--quiet").stdout == ""


def test_closing_leaves_no_process_mount_or_file() -> None:
    """A second Podman of this process, closed while its container runs, is gone without a trace."""
    if os.geteuid() != 0:
        pytest.skip("needs root: containers with cgroup limits are started by the system's Podman")
    with PodmanService() as service:
        service.import_busybox()
        identifier = service.run(
            "run", "--detach", "--network=host", BUSYBOX_TAG, "sleep", "1000"
        ).stdout.strip()
        pid = int(service.run("inspect", "--format", "{{.State.Pid}}", identifier).stdout)
        assert str(service.directory) in Path("/proc/self/mountinfo").read_text()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), what="the container's process is gone")
    assert str(service.directory) not in Path("/proc/self/mountinfo").read_text()
    assert not service.directory.exists()


_ABANDON = """
import os, signal
from tests.support.podman import BUSYBOX_TAG, PodmanService
service = PodmanService().start()
service.import_busybox()
service.run("run", "--detach", "--network=host", BUSYBOX_TAG, "sleep", "1000")
pid = service.run("inspect", "--latest", "--format", "{{.State.Pid}}").stdout
print(service.directory, service.process.pid, pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_cleaned_up_by_the_next(podman: PodmanService) -> None:
    """Its service, container, mounts and files; a living run's stay."""
    argv = [sys.executable, "-c", _ABANDON]
    root = Path(__file__).parents[2]
    left = subprocess.run(argv, cwd=root, check=False, capture_output=True, text=True, timeout=60)
    assert left.returncode == -signal.SIGKILL, left.stderr
    directory, *pids = left.stdout.split()
    PodmanService.reap_abandoned()
    # Another worker of this run may have begun the same; then it is the one to finish.
    wait_for(lambda: not Path(directory).exists(), what="its directory is gone")
    for pid in pids:
        wait_for(lambda pid=pid: _ended(pid), what=f"process {pid} is gone")  # type: ignore[misc]
    assert podman.ping()


def _ended(pid: str) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_an_image_is_pushed_and_pulled(podman: PodmanService, registry: Registry) -> None:
    """To the registry by command line, and back through the REST API with no word about TLS."""
    name = f"{registry.address}/library/busybox"
    podman.run("push", "--quiet", "--tls-verify=false", BUSYBOX_TAG, f"{name}:1")
    assert registry.tags("library/busybox") == ["1"]
    assert registry.tags("library/nothing") == []
    with _client(podman) as client:
        with pytest.raises(ImageNotFound):
            client.images.get(f"{name}:1")
        # Not client.images.pull: it asks for TLS whatever registries.conf says, and passes over errors that
        # Podman reports in the body of a 200.
        pulled = client.api.post("/images/pull", params={"reference": f"{name}:1"})
        pulled.raise_for_status()
        assert "error" not in json.loads(pulled.text.splitlines()[-1])
        try:
            assert f"{name}:1" in client.images.get(f"{name}:1").tags
        finally:
            podman.run("rmi", f"{name}:1")


def test_messages_pass_through_a_plain_broker(mosquitto: Mosquitto) -> None:
    """Published retained at QoS 1 before the subscriber comes."""
    publish = ["mosquitto_pub", "-p", str(mosquitto.port), "-q", "1", "-r", "-t", "a/b", "-m", "hello"]
    subscribe = ["mosquitto_sub", "-p", str(mosquitto.port), "-C", "1", "-W", "10", "-t", "a/b"]
    subprocess.run(publish, check=True, timeout=10)
    assert subprocess.run(subscribe, check=True, timeout=15, capture_output=True).stdout == b"hello\n"


def test_a_persistent_broker_keeps_retained_messages(mosquitto_factory: MosquittoFactory) -> None:
    """Across an orderly restart, on the same port."""
    broker = mosquitto_factory(persistence=True, options={"autosave_interval": "1800"})
    publish = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", "a/b", "-m", "kept"]
    subscribe = ["mosquitto_sub", "-p", str(broker.port), "-C", "1", "-W", "10", "-t", "a/b"]
    subprocess.run(publish, check=True, timeout=10)
    broker.restart()
    assert subprocess.run(subscribe, check=True, timeout=15, capture_output=True).stdout == b"kept\n"


def connect(port: int, context: ssl.SSLContext) -> str:
    """Connect with MQTT 5 over TLS; return the reason code's name."""
    outcome: list[str] = []
    done = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.tls_set_context(context)

    def connected(*args: object) -> None:
        outcome.append(str(args[3]))
        done.set()

    client.on_connect = connected
    client.connect("localhost", port)
    client.loop_start()
    try:
        assert done.wait(10)
    finally:
        client.disconnect()
        client.loop_stop()
    return outcome[0]


def test_a_tls_broker_refuses_a_client_without_a_certificate(
    mosquitto_factory: MosquittoFactory, tmp_path: Path
) -> None:
    """One with a certificate of the CA is let in under its common name; one of another CA is not."""
    material = tls_material(tmp_path / "tls", ["node-1"])
    stranger = tls_material(tmp_path / "other", ["node-1"]).clients["node-1"]
    broker = mosquitto_factory(tls=material)
    assert connect(broker.port, material.client_context("node-1")) == "Success"
    wait_for(lambda: "u'node-1'" in broker.log_text(), what="the common name is the user name")

    foreign = material.client_context()
    foreign.load_cert_chain(stranger.cert, stranger.key)
    for context in (material.client_context(), foreign):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            exchange(broker.port, context)


def exchange(port: int, context: ssl.SSLContext) -> bytes:
    """Complete a TLS handshake, send an MQTT 5 CONNECT and return the answer's first bytes."""
    packet = bytes.fromhex("101000044d5154540502003c0000036e6f70")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(packet)
        answer = secure.recv(4)
        if not answer:
            raise ConnectionResetError("closed without an answer")
        return answer


def test_certificates_pass_strict_verification(mosquitto_factory: MosquittoFactory, tmp_path: Path) -> None:
    """``VERIFY_X509_STRICT`` is what Python 3.13 verifies with by default."""
    material = tls_material(tmp_path / "tls", ["node-1"])
    context = material.client_context("node-1")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    answer = exchange(mosquitto_factory(tls=material).port, context)
    assert answer[0] == 0x20


def test_a_child_that_dies_is_noticed_at_once(tmp_path: Path) -> None:
    """The error has the exit status and what the child wrote last."""
    child = Process(["sh", "-c", "echo no such luck; exit 7"], log=tmp_path / "log").start()
    with pytest.raises(ProcessError, match=r"(?s)status 7.*no such luck"):
        child.wait_until(lambda: False, timeout=30)


def test_a_frozen_child_is_ended(tmp_path: Path) -> None:
    """``terminate`` reaches a stopped process too."""
    with Process(["sleep", "1000"], log=tmp_path / "log") as child:
        child.freeze()
    assert child.returncode == -15


def test_ports_lie_outside_the_range_for_outgoing_connections() -> None:
    """So that no client can take the port of a broker that is restarting."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert high - low > 50_000 or not any(low <= port <= high for port in ports)


async def _answer() -> int:
    return 5


def test_waiting_returns_the_answer_or_says_what_was_missing() -> None:
    """In both forms."""
    assert wait_for(lambda: 5) == 5
    assert asyncio.run(wait_for_async(_answer)) == 5
    with pytest.raises(WaitTimeout, match="a miracle"):
        wait_for(lambda: 0, timeout=0.05, what="a miracle")


def _client(service: PodmanService) -> PodmanClient:
    return PodmanClient(base_url=service.url)
