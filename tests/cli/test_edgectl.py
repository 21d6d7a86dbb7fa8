"""``edgectl`` as a person meets it: messages, columns, exit codes; against the real hub where it matters."""

import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import edgeagent
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.pod import Container, Pod, PodSpec, PodStatus
from edgeagent.cli.edgectl import main, parse_duration, parse_selector
from edgeagent.wire.hubapi import DeleteResult, GetResult, WatchEvent
from edgeagent.wire.rpc import LogsResult, RpcError
from tests.cli.scripted import Call, ScriptedHub, operator, write_operator
from tests.support.broker import MOSQUITTO, Mosquitto
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for

HELLO = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: hello}}
data: {mode: fast}
---
apiVersion: v1
kind: Pod
metadata: {name: hello, labels: {app: hello}}
spec:
  nodeName: n1
  containers: [{name: web, image: busybox}]
"""


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def ctl(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Done]:
    """Run ``edgectl`` in this process."""

    def run(*words: object) -> Done:
        code = main([str(word) for word in words])
        captured = capsysbinary.readouterr()
        return Done(code, captured.out.decode("latin-1"), captured.err.decode())

    return run


@pytest.fixture
def config(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """An operator file for a plain broker, in the environment; gives the broker's port."""
    path = write_operator(tmp_path / "operator.json", operator(mosquitto.port))
    monkeypatch.setenv("EDGECTL_CONFIG", str(path))
    return mosquitto.port


def a_pod(name: str = "hello", version: int = 1, phase: Any = "Running", uid: str = "u1") -> Pod:
    return Pod(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="default", uid=uid, resource_version=str(version)),
        spec=PodSpec(node_name="n1", containers=[Container(name="web", image="x")]),
        status=PodStatus(phase=phase),
    )


def raw(item: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(item))


def change(kind: Any, pod: Pod) -> WatchEvent:
    return WatchEvent(type=kind, object=raw(pod))


# Without a hub ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["--help"], ["get", "--help"], ["apply", "--help"], [], ["version"], ["get"], ["get", "x"]]
)
def test_help_and_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom edgeagent.cli.edgectl import main\n"
        f"main({words!r})\n"
        "heavy = {'yaml', 'paho', 'cryptography', 'ssl'} & {name.partition('.')[0] for name in sys.modules}\n"
        "assert not heavy - {'ssl'}, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_has_examples_and_all_commands(ctl: Callable[..., Done]) -> None:
    top = ctl("--help")
    assert top.code == 0
    for command in ("apply", "get", "describe", "delete", "logs", "version", "completion"):
        assert command in top.out
        told = ctl(command, "--help")
        assert told.code == 0
        assert "examples:" in told.out or command == "version"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get"], "error: you must specify the type of resource"),
        (["get", "deploy"], "error: the server doesn't have a resource type 'deploy'"),
        (["get", "pod/a", "b"], "error: there is no need to mix TYPE/NAME"),
        (["get", "pod/"], "error: there is no need to mix TYPE/NAME"),
        (["get", "pods", "-o", "xml"], "error: argument -o/--output: invalid choice: 'xml'"),
        (["get", "pods", "--wide"], "error: unrecognized arguments: --wide"),
        (["get", "pod", "x", "-A"], "error: a resource cannot be retrieved by name across all namespaces"),
        (["get", "pod", "x", "-l", "a=b"], "error: name cannot be provided when a selector is specified"),
        (["get", "pods,cm", "-w"], "error: you may only specify a single resource type"),
        (["get", "pods", "-l", "a!=b"], "error: argument -l/--selector: 'a!=b' is not KEY=VALUE"),
        (["get", "pod", "a\x1bb"], r"error: 'a\x1bb' is no name of an object"),
        (["describe"], "error: you must specify the type of resource"),
        (["delete", "pod"], "error: resource(s) were provided, but no name was specified"),
        (["delete"], "error: give either a kind and a name, or -f FILE"),
        (["delete", "pod", "a", "--force", "--grace-period", "5"], "error: --force and a --grace-period"),
        (["delete", "pod", "a", "--wait=maybe"], "error: argument --wait: 'maybe' is neither true nor false"),
        (["delete", "pod", "a", "--timeout", "soon"], "error: argument --timeout: 'soon' is no duration"),
        (["logs"], "error: the following arguments are required: POD"),
        (["logs", "cm/a"], "error: logs are of pods, not of configmaps"),
        (["logs", "a", "b", "-c", "c"], "error: only one of -c or an inline CONTAINER"),
        (["logs", "a", "--tail", "-2"], "error: argument --tail: "),
        (["apply"], "error: the following arguments are required: -f/--filename"),
        (["bogus"], "error: argument COMMAND: invalid choice: 'bogus'"),
        (
            ["get", "pods", "--config", "/nonexistent/x.json"],
            "error: there is no operator file at /nonexistent",
        ),
    ],
)
def test_usage_errors(ctl: Callable[..., Done], words: list[str], message: str) -> None:
    done = ctl(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(message)
    assert done.err.count("\n") <= 2


def test_a_bad_namespace(ctl: Callable[..., Done], config: int) -> None:
    assert "error: --namespace: 'A' must be" in ctl("get", "pods", "-n", "A").err


def test_small_readers() -> None:
    assert [parse_duration(text) for text in ("5", "0", "10s", "1m30s", "1.5h")] == [5, 0, 10, 90, 5400]
    assert parse_selector("a=b, c==d,e=") == {"a": "b", "c": "d", "e": ""}


def test_version(ctl: Callable[..., Done]) -> None:
    assert ctl("version").out == f"Client Version: v{edgeagent.__version__}\n"
    assert json.loads(ctl("version", "-o", "json").out) == yaml.safe_load(ctl("version", "-o", "yaml").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(ctl: Callable[..., Done], shell: str) -> None:
    script = ctl("completion", shell).out
    assert "dry-run" in script
    if shell == "bash":
        probe = "COMP_WORDS=(edgectl get po); COMP_CWORD=2; _edgectl; echo ${COMPREPLY[@]}"
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{probe}"], capture_output=True, text=True, check=True
        )
        assert done.stdout == "pods\n"


def test_a_dry_run_at_the_client_asks_nobody(ctl: Callable[..., Done], tmp_path: Path) -> None:
    file = tmp_path / "hello.yaml"
    file.write_text(HELLO)
    done = ctl("apply", "-f", file, "--dry-run", "--config", "/nonexistent")
    assert (done.code, done.out) == (0, "configmap/settings created (dry run)\npod/hello created (dry run)\n")
    file.write_text(HELLO.replace("name: web", "nmae: web"))
    done = ctl("apply", "-f", file, "--dry-run=client")
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"error: .*/hello\.yaml: document 2: spec\.containers\[0\]\.[a-z]+: .*\n", done.err)


def test_standard_input(ctl: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(HELLO.encode())))
    assert ctl("apply", "-f", "-", "--dry-run=client").out.count("created (dry run)") == 2


def test_errors_name_what_to_check(ctl: Callable[..., Done], tmp_path: Path) -> None:
    port = free_port()
    path = write_operator(tmp_path / "o.json", operator(port))
    done = ctl("get", "pods", "--config", path)
    assert done.code == 1
    assert re.match(rf"error: no broker can be reached: 127\.0\.0\.1:{port}: .*refused", done.err)
    path.chmod(0o644)
    assert ctl("get", "pods", "--config", path).err.startswith(
        "warning: other users can read the private key in "
    )


def test_a_hub_that_does_not_answer(ctl: Callable[..., Done], config: int) -> None:
    done = ctl("get", "pods", "--request-timeout", "0.3s")
    assert (done.code, done.out) == (1, "")
    assert "the hub did not answer 'get' within 0.3s" in done.err


# With a scripted hub ------------------------------------------------------------------------------


def test_logs_are_raw_bytes(ctl: Callable[..., Done], config: int) -> None:
    with ScriptedHub(config, lambda call: call.reply(LogsResult(text=b"\xff\x1b[1m\n"))) as hub:
        done = ctl("logs", "-n", "shop", "hello", "-c", "web", "--tail=5", "-p", "--timestamps")
        assert (done.code, done.out, done.err) == (0, "\xff\x1b[1m\n", "")
        assert hub.calls[0].params == {
            "namespace": "shop",
            "pod": "hello",
            "container": "web",
            "tailLines": 5,
            "previous": True,
            "timestamps": True,
        }
        ctl("logs", "pod/hello", "--tail=-1")
        assert hub.calls[1].params == {"namespace": "default", "pod": "hello"}
    with ScriptedHub(config, lambda call: call.reply(LogsResult(text=b"x", truncated=True))):
        assert "its beginning was left out" in ctl("logs", "hello").err
    with ScriptedHub(config, lambda call: call.fail(RpcError("NodeOffline", "n1 is \x1b[1m away"))):
        done = ctl("logs", "hello")
        assert (done.code, done.err) == (1, "Error from server (NodeOffline): n1 is \\x1b[1m away\n")


def test_words_may_come_in_any_order(ctl: Callable[..., Done], config: int) -> None:
    with ScriptedHub(config, lambda call: call.reply(GetResult(items=[raw(a_pod())]))) as hub:
        for words in (
            ["-n", "shop", "get", "pod", "hello", "-o", "name"],
            ["get", "-n", "shop", "pod", "-o", "name", "hello"],
            ["get", "pod", "-o=name", "hello", "-nshop"],
            ["get", "-o", "name", "po/hello", "--namespace=shop"],
        ):
            assert ctl(*words).out == "pod/hello\n"
        assert {json.dumps(call.params, sort_keys=True) for call in hub.calls} == {
            '{"kind": "Pod", "name": "hello", "namespace": "shop"}'
        }


def test_a_watch_prints_what_is_new_and_what_goes(config: int) -> None:
    """Every state once: the watch's own first events repeat the list."""
    pods = [a_pod("a", uid="ua"), a_pod("b", uid="ub")]
    watches: list[Call] = []

    def answer(call: Call) -> None:
        if call.method == "watch":
            watches.append(call)
            for number, pod in enumerate(pods):
                call.reply(change("ADDED", pod), sequence=number, last=False)
        elif call.method == "get":
            call.reply(GetResult(items=[raw(pod) for pod in pods]))

    with ScriptedHub(config, answer) as hub, Watching("get", "pods", "-w") as edgectl_process:
        assert edgectl_process.read(3)[1:] == [
            "a      0/1     Running   0          <unknown>",
            "b      0/1     Running   0          <unknown>",
        ]
        succeeded = a_pod("b", uid="ub", phase="Succeeded")
        hub.soon(lambda: watches[0].reply(change("MODIFIED", succeeded), sequence=2, last=False))
        assert edgectl_process.read(1) == ["b      0/1     Succeeded   0          <unknown>"]
        # The hub's time is up; meanwhile b goes and c comes.
        pods[1] = a_pod("c", uid="uc")
        hub.soon(lambda: watches[0].reply(None, sequence=3))
        assert edgectl_process.read(2) == [
            "b      0/1     Succeeded   0          <unknown>",
            "c      0/1     Running     0          <unknown>",
        ]
        hub.soon(lambda: watches[1].reply(change("DELETED", a_pod("a", uid="ua")), sequence=2, last=False))
        assert edgectl_process.read(1) == ["a      0/1     Running     0          <unknown>"]
        edgectl_process.interrupt()
        wait_for(lambda: hub.methods()[-1] == "cancel", what="the cancel")
    assert (edgectl_process.code, edgectl_process.err) == (130, "")


def test_a_watch_outlives_the_broker(config: int, mosquitto: Mosquitto) -> None:
    def answer(call: Call) -> None:
        if call.method == "get":
            call.reply(GetResult(items=[raw(a_pod())]))

    with ScriptedHub(config, answer) as hub, Watching("get", "pods", "-w", "-o", "name") as process:
        assert process.read(1) == ["pod/hello"]
        mosquitto.restart()
        wait_for(lambda: hub.methods().count("watch") >= 2, 30, "the second watch")
        wait_for(lambda: "watching again" in process.err, 20, "the news of it")
        process.interrupt()
    assert process.code == 130
    assert "the connection to the broker was lost" in process.err


def test_interrupting_a_connection_that_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        path = write_operator(tmp_path / "o.json", operator(silent.getsockname()[1]))
        monkeypatch.setenv("EDGECTL_CONFIG", str(path))
        with Watching("get", "pods") as process, silent.accept()[0] as connection:
            assert connection.recv(100)  # CONNECT, which is never answered
            process.interrupt()
            assert connection.recv(100) == b""
    assert (process.code, process.err) == (130, "")


def test_delete_waits_for_this_pod_and_no_other(ctl: Callable[..., Done], config: int) -> None:
    watches: list[Call] = []

    def answer(call: Call) -> None:
        if call.method == "watch":
            watches.append(call)
            call.reply(change("ADDED", a_pod()), sequence=0, last=False)
        elif call.method == "delete":
            call.reply(DeleteResult(state="terminating", uid="u1"))
            call.reply(DeleteResult(state="terminating", uid="u1"))
            steps = [change("MODIFIED", a_pod(version=2)), change("DELETED", a_pod(version=3))]
            for number, step in enumerate(steps, 1):
                watches[-1].reply(step, sequence=number, last=False)

    with ScriptedHub(config, answer) as hub:
        done = ctl("delete", "pod", "hello", "--grace-period=3")
        assert (done.code, done.out, done.err) == (0, 'pod "hello" deleted\n', "")
        wait_for(lambda: len(hub.calls) == 3, what="the cancel")
        assert hub.methods() == ["watch", "delete", "cancel"]
        assert hub.calls[1].params == {
            "kind": "Pod",
            "namespace": "default",
            "name": "hello",
            "gracePeriodSeconds": 3,
        }


def test_delete_knows_a_pod_that_has_taken_the_name(ctl: Callable[..., Done], config: int) -> None:
    def answer(call: Call) -> None:
        if call.method == "watch":
            call.reply(None)
        elif call.method == "delete":
            call.reply(DeleteResult(state="terminating", uid="u1"))
        elif call.method == "get":
            call.reply(GetResult(items=[raw(a_pod(uid="u2"))]))

    with ScriptedHub(config, answer):
        assert ctl("delete", "pod/hello").code == 0


def test_delete_gives_up_in_time_or_does_not_wait(ctl: Callable[..., Done], config: int) -> None:
    def answer(call: Call) -> None:
        if call.method == "delete":
            call.reply(DeleteResult(state="deleted" if call.params.get("force") else "terminating", uid="u1"))

    with ScriptedHub(config, answer) as hub:
        done = ctl("delete", "pod", "hello", "--timeout=0.3s")
        assert (done.code, done.out) == (1, 'pod "hello" deleted\n')
        assert done.err == "error: timed out waiting for the condition on pods/hello\n"
        assert ctl("delete", "pod", "hello", "--wait=false").code == 0
        done = ctl("delete", "pod", "hello", "--force")
        assert (done.code, done.out) == (0, 'pod "hello" force deleted\n')
        assert done.err.startswith("warning: Immediate deletion does not wait")
        assert hub.calls[-1].params["force"] is True
        assert hub.calls[-1].params["gracePeriodSeconds"] == 0


@pytest.mark.parametrize("words", [["get", "pods"], ["version"], ["get", "pods", "--watch"]])
def test_a_reader_that_has_gone_away(config: int, words: list[str]) -> None:
    with ScriptedHub(config, lambda call: call.reply(GetResult(items=[raw(a_pod())]))):
        command = [sys.executable, "-W", "error", "-m", "edgeagent.cli.edgectl", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        with process.stderr:
            assert process.stderr.read() == b""
        assert process.wait(20) == 141


def test_a_person_is_told_what_takes_long(config: int, tmp_path: Path) -> None:
    def answer(call: Call) -> None:
        hub.later(2.5, lambda: call.reply(GetResult(items=[])))

    with ScriptedHub(config, answer) as hub:
        leader, follower = pty.openpty()
        try:
            command = [sys.executable, "-m", "edgeagent.cli.edgectl", "get", "pods"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=30, check=False)
            text = os.read(leader, 1000).decode()
        finally:
            os.close(leader)
            os.close(follower)
    assert done.returncode == 0
    assert text == "waiting for the hub's answer …\r\nNo resources found in default namespace.\r\n"


class Watching:
    """``edgectl`` as a process whose output is read line by line."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "edgeagent.cli.edgectl", *words]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors)
        self.code: int | None = None

    def __enter__(self) -> "Watching":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.code = self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            self._process.stdout.close()
            self._process.stderr.close()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(iter(self._process.stderr.readline, ""))

    @property
    def err(self) -> str:
        """What it has written to its standard error."""
        return "".join(self._errors)

    def read(self, count: int) -> list[str]:
        """The next lines of its output; fewer of them, empty, where it takes too long."""
        assert self._process.stdout is not None
        timer = threading.Timer(20, self._process.kill)
        timer.start()
        try:
            return [self._process.stdout.readline().rstrip("\n") for _ in range(count)]
        finally:
            timer.cancel()

    def interrupt(self) -> None:
        """What ^C does."""
        self._process.send_signal(signal.SIGINT)


# With the real hub --------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster as ``edgehub`` makes it: Mosquitto with TLS and ACLs, the hub, and one node that is away."""
    if not Path(MOSQUITTO).exists():
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")
    port = free_port()
    hub_dir = tmp_path / "hub"

    def edgehub(*words: object) -> list[str]:
        return [sys.executable, "-m", "edgeagent.cli.edgehub", *map(str, words), "--dir", str(hub_dir)]

    address = f"127.0.0.1:{port}"
    init = edgehub("init", "--cluster", "test", "--broker", address, "--listen", address)
    subprocess.run(init, check=True, capture_output=True, timeout=60)
    add = edgehub("node", "add", "n1", "--output", tmp_path / "n1.join")
    subprocess.run(add, check=True, capture_output=True, timeout=60)
    configuration = hub_dir / "mosquitto" / "mosquitto.conf"
    with (
        Process([MOSQUITTO, "-c", str(configuration)], log=tmp_path / "mosquitto.log") as broker,
        Process(edgehub("run"), log=tmp_path / "hub.log"),
    ):
        broker.wait_until(lambda: port_answers(port), what="accepting connections")
        monkeypatch.setenv("EDGECTL_CONFIG", str(hub_dir / "operator.json"))
        wait_for(lambda: main(["get", "nodes", "--request-timeout", "1s"]) == 0, 20, "the hub to answer")
        yield tmp_path


def test_the_life_of_objects(cluster: Path, ctl: Callable[..., Done]) -> None:
    ctl("version")  # drops what the fixture printed
    done = ctl("get", "pods")
    assert (done.code, done.out, done.err) == (0, "", "No resources found in default namespace.\n")
    assert ctl("get", "pods", "-A").err == "No resources found\n"
    assert ctl("get", "nodes").out.splitlines()[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]

    file = cluster / "hello.yaml"
    file.write_text(HELLO)
    done = ctl("apply", "-f", file, "--dry-run=server")
    assert done.out == "configmap/settings created (server dry run)\npod/hello created (server dry run)\n"
    assert ctl("apply", "-f", file).out == "configmap/settings created\npod/hello created\n"
    assert ctl("apply", "-f", file).out == "configmap/settings unchanged\npod/hello unchanged\n"
    file.write_text(HELLO.replace("mode: fast", "mode: slow"))
    assert ctl("apply", "-f", file).out == "configmap/settings configured\npod/hello unchanged\n"

    done = ctl("get", "pods,cm", "-l", "app=hello")
    assert [line.split()[:3] for line in done.out.splitlines()] == [
        ["NAME", "READY", "STATUS"],
        ["pod/hello", "0/1", "Pending"],
        [],
        ["NAME", "DATA", "AGE"],
        ["configmap/settings", "1", done.out.split()[-1]],
    ]
    assert ctl("get", "po/hello", "-o", "wide", "--no-headers").out.split()[-1] == "n1"
    one = yaml.safe_load(ctl("get", "pod", "hello", "-o", "yaml").out)
    assert (one["kind"], one["metadata"]["name"], one["spec"]["nodeName"]) == ("Pod", "hello", "n1")
    assert [item["kind"] for item in json.loads(ctl("get", "po,cm", "-o", "json").out)["items"]] == [
        "Pod",
        "ConfigMap",
    ]
    assert ctl("get", "pods", "-l", "app=other").err == "No resources found in default namespace.\n"

    file.write_text(yaml.safe_dump(one))
    assert ctl("apply", "-f", file).out == "pod/hello unchanged\n"

    done = ctl("describe", "pod", "hello")
    assert done.code == 0
    assert re.search(r"^Node: +n1/$", done.out, re.MULTILINE)
    assert ctl("describe", "node/n1").out.startswith("Name:")

    done = ctl("get", "pod", "hello", "gone")
    assert done.code == 1
    assert done.out.splitlines()[1].startswith("hello ")
    assert done.err == 'Error from server (NotFound): pods "gone" not found\n'
    assert ctl("describe", "cm", "gone").err == 'Error from server (NotFound): configmaps "gone" not found\n'
    assert ctl("logs", "hello").err.startswith("Error from server (NodeOffline): node n1 is not connected")

    file.write_text(HELLO)
    done = ctl("delete", "-f", file, "--wait=false")
    assert (done.code, done.out) == (0, 'configmap "settings" deleted\npod "hello" deleted\n')
    assert ctl("get", "pods", "--no-headers").out.split()[2] == "Terminating"
    assert ctl("delete", "pod", "hello", "--force").code == 0
    done = ctl("delete", "pod", "hello")
    assert (done.code, done.err) == (1, 'Error from server (NotFound): pods "hello" not found\n')
    assert ctl("delete", "-f", file, "--ignore-not-found").code == 0


def test_the_hubs_refusal_names_the_document(cluster: Path, ctl: Callable[..., Done]) -> None:
    ctl("version")
    file = cluster / "hello.yaml"
    file.write_text(HELLO.replace("nodeName: n1", "nodeName: n9"))
    done = ctl("apply", "-f", file)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error from server (Invalid): ")
    assert done.err.endswith(f"(from {file}: document 2)\n")
    assert ctl("get", "cm").err == "No resources found in default namespace.\n"


def test_delete_of_many(cluster: Path, ctl: Callable[..., Done]) -> None:
    ctl("version")
    file = cluster / "maps.yaml"
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, labels: {app: NAME}}\n"
    file.write_text("---\n".join(one.replace("NAME", name) for name in "abc"))
    assert ctl("apply", "-f", file).out.count("created") == 3
    assert ctl("delete", "cm", "-l", "app=a").out == 'configmap "a" deleted\n'
    assert ctl("delete", "cm", "--all").out == 'configmap "b" deleted\nconfigmap "c" deleted\n'
    assert ctl("delete", "cm", "--all").err == "No resources found\n"
