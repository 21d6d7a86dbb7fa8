"""``edgectl`` and a hub that follows a script: logs, watches, slow deletes, readers that go away."""

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent.wire.hubapi import DeleteResult, GetResult
from edgeagent.wire.rpc import LogsResult, RpcError
from tests.cli.running import Ctl, Watching, a_pod, change, raw
from tests.cli.scripted import Call, ScriptedHub, operator, write_operator
from tests.support.broker import Mosquitto
from tests.support.waiting import wait_for


def _found_on_node(answer: Callable[[Call], None]) -> Callable[[Call], None]:
    """The pod is on its node, and ``answer`` is for what follows."""
    return lambda call: call.reply(GetResult(items=[raw(a_pod())])) if call.method == "get" else answer(call)


def test_logs_are_raw_bytes(ctl: Ctl, config: int) -> None:
    text = LogsResult(text=b"\xff\x1b[1m\n")
    with ScriptedHub(config, _found_on_node(lambda call: call.reply(text))) as hub:
        done = ctl("logs", "-n", "shop", "hello", "-c", "web", "--tail=5", "-p", "--timestamps")
        assert (done.code, done.out, done.err) == (0, "\xff\x1b[1m\n", "")
        assert hub.calls[0].params == {"kind": "Pod", "namespace": "shop", "name": "hello"}
        assert (hub.methods(), hub.calls[1].target) == (["get", "logs"], a_pod().spec.node_name)
        assert hub.calls[1].params == {
            "namespace": "shop",
            "pod": "hello",
            "container": "web",
            "tailLines": 5,
            "previous": True,
            "timestamps": True,
        }
        ctl("logs", "pod/hello", "--tail=-1")
        assert hub.calls[3].params == {"namespace": "default", "pod": "hello"}
    part = LogsResult(text=b"x", truncated=True)
    with ScriptedHub(config, _found_on_node(lambda call: call.reply(part))):
        assert "its beginning was left out" in ctl("logs", "hello").err
    away = RpcError("NodeOffline", "n1 is \x1b[1m away")
    with ScriptedHub(config, _found_on_node(lambda call: call.fail(away))):
        done = ctl("logs", "hello")
        assert (done.code, done.err) == (1, "Error from server (NodeOffline): n1 is \\x1b[1m away\n")


def test_words_may_come_in_any_order(ctl: Ctl, config: int) -> None:
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


def test_delete_waits_for_this_pod_and_no_other(ctl: Ctl, config: int) -> None:
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


def test_delete_knows_a_pod_that_has_taken_the_name(ctl: Ctl, config: int) -> None:
    def answer(call: Call) -> None:
        if call.method == "watch":
            call.reply(None)
        elif call.method == "delete":
            call.reply(DeleteResult(state="terminating", uid="u1"))
        elif call.method == "get":
            call.reply(GetResult(items=[raw(a_pod(uid="u2"))]))

    with ScriptedHub(config, answer):
        assert ctl("delete", "pod/hello").code == 0


def test_delete_gives_up_in_time_or_does_not_wait(ctl: Ctl, config: int) -> None:
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
