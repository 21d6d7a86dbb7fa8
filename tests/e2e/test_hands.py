"""Hands in a pod: from afar by edgectl, over the broker, and on the node itself, without any network.

Real terminals (a pty each), a real Podman, a real broker; nothing of the programs is played.
"""

import json
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.cluster import AgentProcess, Cluster, container, pod, program
from tests.support.podman import PodmanService
from tests.support.proc import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

Site = tuple[Cluster, AgentProcess]
COUNTING = ["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.2; done"]


@pytest.fixture(scope="module")
def site(podman_service: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster of one node with the pod ``web``: ``main`` counts aloud, ``http`` serves its root."""
    with Cluster(tmp_path_factory.mktemp("hands"), podman_service) as cluster:
        node = cluster.add_node("n1")
        node.start()
        port = free_port()
        served = container("http", ["httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/"])
        served["ports"] = [{"containerPort": port, "name": "http"}]
        web = pod("web", "n1", [container("main", COUNTING), served])
        web["metadata"] = {"name": "web", "namespace": "default", "labels": {"app": "web"}}
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "site", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }
        cluster.apply(web, service)
        cluster.wait_phase("web", "Running")
        yield cluster, node
    podman_service.kill_all_containers()


def _environment(cluster: Cluster) -> dict[str, str]:
    return {**os.environ, "EDGECTL_CONFIG": str(cluster.hub_dir / "operator.json"), "TERM": "xterm"}


def remote(site: Site) -> list[str]:
    """``edgectl``, as a command."""
    return program("edgectl")


def local(site: Site) -> list[str]:
    """``edgeagent`` on the node."""
    return program("edgeagent", "--config", site[1].config)


Program = Callable[[Site], list[str]]
both = pytest.mark.parametrize("hand", [remote, local])


def run(site: Site, argv: list[str], **more: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run a program to its end, without a terminal."""
    return subprocess.run(
        argv, capture_output=True, timeout=60, check=False, env=_environment(site[0]),
        **{"stdin": subprocess.DEVNULL, **more} if "input" not in more else more,
    )  # fmt: skip


def sit_down(site: Site, argv: list[str]) -> "pexpect.spawn[str]":
    """Start a program at a terminal of 100 columns and 30 rows."""
    return pexpect.spawn(
        argv[0], argv[1:], dimensions=(30, 100), timeout=30, env=_environment(site[0]), encoding="utf-8"
    )


def _number(child: "pexpect.spawn[str]") -> int:
    """The first group of what was expected last."""
    match: Any = child.match
    return int(match.group(1))


def _end(child: "pexpect.spawn[str]") -> int | None:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


@both
def test_a_shell_at_a_terminal(site: Site, hand: Program) -> None:
    child = sit_down(site, [*hand(site), "exec", "-it", "web", "-c", "main", "--", "sh"])
    before = termios.tcgetattr(child.child_fd)
    child.expect("[#$] ")
    assert termios.tcgetattr(child.child_fd) != before, "the terminal is raw"
    child.sendline("echo so $((40+2))")
    child.expect_exact("echo so $((40+2))")  # the echo of the terminal in the container
    child.expect("so 42")
    child.sendline("stty size")
    child.expect("30 100")
    child.setwinsize(50, 132)
    wait_for(lambda: _says(child, "stty size", "50 132"), 20, "the new size")
    child.sendline("sleep 1000; echo status $?")
    child.expect("echo status")
    time.sleep(0.5)  # the shell has begun to sleep: nothing says so
    child.sendintr()
    child.expect("[#$] ")
    child.sendline("exit 7")
    child.expect("command terminated with exit code 7")
    assert _end(child) == 7
    assert termios.tcgetattr(child.child_fd) == before


def _says(child: "pexpect.spawn[str]", command: str, expected: str) -> bool:
    child.sendline(command)
    return bool(child.expect([expected, "[0-9]+ [0-9]+"]) == 0)


@both
def test_without_a_terminal_bytes_and_exit_codes_go_through(site: Site, hand: Program) -> None:
    given = bytes(range(256)) * 2000
    execute = [*hand(site), "exec", "-i", "pod/web", "-c", "main", "--"]
    done = run(site, [*execute, "cat"], input=given)
    assert (done.returncode, done.stdout == given, done.stderr) == (0, True, b"")
    done = run(site, [*execute, "sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr == b"err\ncommand terminated with exit code 3\n"
    done = run(site, [*execute, "no-such-program"])
    assert done.returncode not in (0, 130)
    assert b"no-such-program" in done.stderr


@both
def test_what_cannot_be_is_told_with_what_to_do(site: Site, hand: Program) -> None:
    done = run(site, [*hand(site), "exec", "absent", "--", "ls"])
    assert done.returncode == 1
    assert b'pods "absent" not found' in done.stderr
    done = run(site, [*hand(site), "exec", "web", "-c", "other", "--", "ls"])
    assert done.returncode == 1
    assert b"other" in done.stderr
    done = run(site, [*hand(site), "exec", "web", "-c", "main"])
    assert done.returncode == 1
    assert b"after --" in done.stderr
    done = run(site, [*hand(site), "exec", "-it", "web", "-c", "main", "--", "true"])
    assert (done.returncode, b"Unable to use a TTY" in done.stderr) == (0, True)
    done = run(site, [*hand(site), "logs", "-f", "absent"])
    assert done.returncode == 1
    assert b'pods "absent" not found' in done.stderr


@both
def test_logs_are_followed_until_ctrl_c(site: Site, hand: Program) -> None:
    child = sit_down(site, [*hand(site), "logs", "-f", "web", "-c", "main", "--tail", "1", "--timestamps"])
    child.expect(r"20\d\d-\d\d-\d\dT[0-9:.]+(?:Z|\+00:00) line (\d+)\r\n")
    first = _number(child)
    for number in range(first + 1, first + 4):
        child.expect(rf" line {number}\r\n")
    child.sendintr()
    assert _end(child) == 130


@both
def test_logs_of_all_containers_have_a_prefix(site: Site, hand: Program) -> None:
    done = run(site, [*hand(site), "logs", "web", "--all-containers", "--prefix", "--tail", "2"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line for line in lines if line.startswith("[pod/web/main] line ")] == lines
    assert len(lines) == 2
    done = run(site, [*hand(site), "logs", "web", "-c", "main", "--since", "1s"])
    assert 0 < len(done.stdout.splitlines()) < 20


def test_a_selector_finds_the_pods(site: Site) -> None:
    cluster, _ = site
    done = cluster.ctl("logs", "-l", "app=web", "-c", "main")
    assert len(done.stdout.splitlines()) == 10
    assert "No resources found" in cluster.ctl("logs", "-l", "app=other").stderr


@both
def test_following_ends_with_the_pod(site: Site, hand: Program) -> None:
    cluster, _ = site
    name = f"brief-{hand.__name__}"
    brief = pod(name, "n1", [container("main", ["sh", "-c", "echo begin; sleep 3; echo end"])])
    cluster.apply(brief | {"spec": {**brief["spec"], "restartPolicy": "Never"}})  # type: ignore[dict-item]
    cluster.wait_phase(name, "Running")
    done = run(site, [*hand(site), "logs", "-f", name])
    assert (done.returncode, done.stdout) == (0, b"begin\nend\n"), done.stderr
    cluster.ctl("delete", "pod", name)


def _fetch(port: int, path: str = "/bin/busybox", host: str = "127.0.0.1") -> bytes:
    """A file of the pod, by plain HTTP on a socket of one's own."""
    with socket.create_connection((host, port), timeout=20) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        parts = []
        while data := client.recv(65_536):
            parts.append(data)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    assert b"200 OK" in head, head
    return body


@pytest.mark.parametrize("target", ["web", "service/site"])
def test_ports_lead_into_the_pod(site: Site, target: str) -> None:
    remote_port = "80" if target.startswith("service") else "http"
    child = sit_down(site, [*remote(site), "port-forward", target, f":{remote_port}"])
    child.expect(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+\r\n")
    port = _number(child)
    found = _fetch(port)
    assert found == Path("/bin/busybox").read_bytes()
    child.expect(f"Handling connection for {port}")
    assert _fetch(port, host="::1") == found
    child.sendintr()
    assert _end(child) == 130
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_that_nobody_listens_on_and_one_that_is_taken(site: Site) -> None:
    closed = free_port()
    child = sit_down(site, [*remote(site), "port-forward", "web", f":{closed}"])
    child.expect(r"Forwarding from 127\.0\.0\.1:(\d+) -> ")
    with socket.create_connection(("127.0.0.1", _number(child)), timeout=20) as client:
        assert client.recv(1) == b""
    child.expect("an error occurred forwarding")
    child.sendintr()
    assert _end(child) == 130
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        done = run(site, [*remote(site), "port-forward", "web", f"{number}:80", "--address", "127.0.0.1"])
    assert done.returncode == 1
    assert f"unable to listen on 127.0.0.1:{number}".encode() in done.stderr


def test_top_of_nodes_pods_and_containers(site: Site) -> None:
    cluster, node = site
    assert cluster.ctl("top", "node").stdout.split()[:6] == [
        "NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)", "n1",
    ]  # fmt: skip
    lines = cluster.ctl("top", "pod", "-A", "--sort-by", "memory", "--containers").stdout.splitlines()
    assert lines[0].split() == ["NAMESPACE", "POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert {tuple(line.split()[:3]) for line in lines[1:]} == {
        ("default", "web", "main"),
        ("default", "web", "http"),
    }
    assert cluster.ctl("top", "pod", "-l", "app=other").stderr == "No resources found in default namespace.\n"
    listed = json.loads(cluster.ctl("top", "pod", "web", "-o", "json").stdout)
    assert (listed["kind"], listed["metadata"]["name"]) == ("PodMetrics", "web")
    once = node.run("top", "--once").stdout
    assert "default/web  main" in once
    assert once.startswith("CPU")
    assert {one["metadata"]["name"] for one in json.loads(node.run("top", "-o", "json").stdout)["pods"]} == {
        "web"
    }
    child = sit_down(site, [*local(site), "top"])
    child.expect("default/web")
    child.send("s")
    child.expect("s sort by cpu")
    child.send("q")
    assert _end(child) == 0


def test_events_are_counted_from_the_node_to_edgectl(site: Site) -> None:
    """A container that fails again and again; in between the agent is killed and forgets its counts."""
    cluster, node = site
    watching = sit_down(site, [*remote(site), "events", "--for", "pod/failing", "-w"])
    here = sit_down(site, [*local(site), "events", "--for", "pod/failing", "-w"])
    failing = pod("failing", "n1", [container("main", ["sh", "-c", "exit 1"])])
    cluster.apply(failing)

    def started() -> int:
        found = cluster.get("events", "--for", "pod/failing")["items"]
        return max((one.get("count", 1) for one in found if one["reason"] == "Started"), default=0)

    wait_for(lambda: started() >= 2, 60, "a second start")
    for child in (watching, here):
        child.expect(r"\(x2 over \S+\)\s+Normal\s+Started\s+Pod/failing")
        child.sendintr()
        assert _end(child) == 130
    before = started()
    node.process.kill()
    node.start()
    wait_for(lambda: started() > before, 60, "a start after the restart")
    found = [
        one for one in cluster.get("events", "--for", "pod/failing")["items"] if one["reason"] == "Started"
    ]
    assert len(found) == 1, "one event, whichever agent told of it"
    assert found[0]["firstTimestamp"] < found[0]["lastTimestamp"]
    described = cluster.ctl("describe", "pod", "failing").stdout
    assert f"(x{started()} over " in described or f"(x{before + 1} over " in described
    assert "Started" in node.run("describe", "pod", "failing").stdout
    assert "Started" not in cluster.ctl("events", "--for", "pod/failing", "--types", "Warning").stdout
    times = [one["lastTimestamp"] for one in cluster.get("events")["items"]]
    assert times == sorted(times)
    cluster.ctl("delete", "pod", "failing")
    assert "failing" not in cluster.ctl("get", "events", "--for", "pod/web").stdout


def _sleepers(site: Site, mark: str) -> int:
    """How many commands with ``mark`` in their line run in the pod."""
    listed = site[0].ctl("exec", "web", "-c", "main", "--", "ps").stdout
    return sum(mark in line and "ps" not in line.split()[-1:] for line in listed.splitlines())


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_is_ended_ends_its_command_and_gives_the_terminal_back(
    site: Site, hand: Program, number: signal.Signals
) -> None:
    mark = f"41{number:02}{len(hand.__name__)}"  # a number of seconds that no other test sleeps for
    execute = ["exec", "-it", "web", "-c", "main", "--", "sleep", mark]
    child = sit_down(site, [*hand(site), *execute])
    before = termios.tcgetattr(child.child_fd)
    wait_for(lambda: _sleepers(site, mark) == 1, 30, "the command")
    assert termios.tcgetattr(child.child_fd) != before
    child.kill(number)
    _end(child)
    assert child.signalstatus == number
    assert termios.tcgetattr(child.child_fd) == before
    wait_for(lambda: _sleepers(site, mark) == 0, 30, "the end of the command")


@both
def test_ctrl_c_without_a_terminal_is_130_and_ends_the_command(site: Site, hand: Program) -> None:
    mark = f"4200{len(hand.__name__)}"
    argv = [*hand(site), "exec", "web", "-c", "main", "--", "sleep", mark]
    process = subprocess.Popen(argv, env=_environment(site[0]), stderr=subprocess.PIPE)
    try:
        wait_for(lambda: _sleepers(site, mark) == 1, 30, "the command")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
        assert (process.returncode, error) == (130, b"")
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: _sleepers(site, mark) == 0, 30, "the end of the command")


def test_a_reader_that_goes_away_ends_it_quietly(site: Site) -> None:
    for hand in (remote, local):
        line = " ".join([*hand(site), "logs", "-f", "web", "-c", "main", "|", "head", "-n", "3"])
        done = run(site, ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}} >&2"])
        assert len(done.stdout.splitlines()) == 3
        assert done.stderr == b"141\n"


def test_a_broker_that_is_away_for_a_moment_costs_nothing_but_that(site: Site) -> None:
    cluster, _ = site
    logs = sit_down(site, [*remote(site), "logs", "-f", "web", "-c", "main", "--tail", "1"])
    shell = sit_down(site, [*remote(site), "exec", "-it", "web", "-c", "main", "--", "sh"])
    shell.expect("[#$] ")
    logs.expect(r"line (\d+)\r\n")
    first = _number(logs)
    cluster.broker.kill()
    shell.expect(r"no connection to the node \(.*\); trying again \(\^C gives up\)")
    shell.send("echo typed $((20+3)) meanwhile\r")
    cluster.start_broker()
    shell.expect_exact("connected again")
    shell.expect("typed 23 meanwhile")
    logs.expect("connected again")
    logs.expect(rf"line {first + 200}\r\n", timeout=120)
    numbers = [int(line.split()[1]) for line in str(logs.before).splitlines() if line.startswith("line ")]
    assert numbers == list(range(numbers[0], first + 200))
    logs.sendintr()
    assert _end(logs) == 130
    shell.send("exit\r")
    assert _end(shell) == 0


def test_what_goes_on_ends_with_the_pod_and_with_the_agent(site: Site) -> None:
    cluster, node = site
    cluster.apply(pod("brief", "n1", [container("main", ["sleep", "3600"])]))
    cluster.wait_phase("brief", "Running")
    forward = sit_down(site, [*remote(site), "port-forward", "brief", ":80"])
    shell = sit_down(site, [*local(site), "exec", "-it", "brief", "--", "sh"])
    forward.expect("Forwarding from")
    shell.expect("[#$] ")
    cluster.ctl("delete", "pod", "brief")
    forward.expect("error: lost connection to pod: ")
    assert _end(forward) == 1
    assert _end(shell) != 0
    logs = sit_down(site, [*remote(site), "logs", "-f", "web", "-c", "main", "--tail", "1"])
    here = sit_down(site, [*local(site), "logs", "-f", "web", "-c", "main", "--tail", "1"])
    for child in (logs, here):
        child.expect("line ")
    node.process.terminate()
    try:
        for child in (logs, here):
            child.expect("the agent (of the node )?stops")
            assert _end(child) == 1
        done = run(site, [*local(site), "exec", "web", "-c", "main", "--", "ls"])
        assert (done.returncode, b"systemctl start edgeagent" in done.stderr) == (1, True)
        done = run(site, [*remote(site), "exec", "web", "-c", "main", "--", "ls"])
        assert done.returncode == 1
        assert b"n1" in done.stderr, done.stderr
    finally:
        node.start()


def test_the_nodes_own_hands_need_no_network(site: Site) -> None:
    cluster, node = site
    cluster.apply(pod("fresh", "n1", [container("main", ["sleep", "3600"])]))
    cluster.wait_phase("fresh", "Running")
    cluster.broker.kill()
    try:
        wait_for(lambda: node.condition("Connected").get("status") == "False", 30, "the lost connection")
        assert node.run("exec", "web", "-c", "main", "--", "echo", "here").stdout == "here\n"
        assert len(node.run("logs", "web", "-c", "main", "--tail", "3").stdout.splitlines()) == 3
        assert "default/web" in node.run("top", "--once").stdout
        assert "Name:" in node.run("describe", "pod", "web").stdout
        page = node.run("describe", "node").stdout
        assert "Non-terminated Pods:" in page
        assert "web" in page
        assert "Started" in node.run("events", "--for", "pod/fresh").stdout
        assert "Pod/fresh" in node.run("events", "-A").stdout
        found = json.loads(node.run("events", "-o", "json").stdout)["items"]
        assert [one["lastTimestamp"] for one in found] == sorted(one["lastTimestamp"] for one in found)
        missing = node.run("describe", "pod", "absent", check=False)
        assert (missing.returncode, 'pods "absent" not found' in missing.stderr) == (1, True)
    finally:
        cluster.start_broker()
    wait_for(lambda: cluster.ctl("get", "nodes", check=False).returncode == 0, 60, "the hub to be back")
    cluster.ctl("delete", "pod", "fresh")
