"""``edgeagent network`` and ``edgectl network``: what is asked for, and how the answer is printed."""

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeagent.api.network import Rows
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.service import Protocol
from edgeagent.cli.edgeagent import main
from edgeagent.cli.networkview import BadEndsError, wanted
from edgeagent.node.localapi import LocalApi
from edgeagent.node.reads import NodeReads
from edgeagent.wire.rpc import NetworkParams, NetworkResult, RpcError
from tests.cli.running import Ctl
from tests.cli.scripted import ScriptedHub
from tests.node.usagekit import usage_reads

ROWS = [
    {"namespace": "default", "name": "site", "hits": "12"},
    {"namespace": "default", "name": "long\x1b[1m-name", "hits": "0"},
]


class Network:
    """Answers as the plugin's facade does."""

    async def show(self, what: Rows) -> list[dict[str, str]]:
        """Rows of services, and none of anything else."""
        return ROWS if what == "services" else []

    async def trace(self, source: str, target: str, port: int, protocol: Protocol) -> list[str]:
        """What it was asked."""
        return [f"from {source} to {target}, port {port}/{protocol}", "allowed"]


@contextmanager
def agent(socket: Path) -> Iterator[None]:
    """The local API on a loop of its own."""
    loop = asyncio.new_event_loop()
    reads = NodeReads(name="n1", pods=None, status=NodeStatus, usage=usage_reads(), network=Network())
    api = LocalApi(socket, reads, services={}, agent_status=dict)

    async def start() -> None:
        api.start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        yield
        asyncio.run_coroutine_threadsafe(api.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def test_on_the_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    socket = tmp_path / "api.sock"

    def run(*words: str) -> int:
        return main(["--socket", str(socket), "network", *words])

    with agent(socket):
        assert run() == 0
        assert capsys.readouterr().out == (
            "NAMESPACE   NAME               HITS\n"
            "default     site               12\n"
            "default     long\\x1b[1m-name   0\n"
        )
        assert run("services", "-o", "json") == 0
        assert json.loads(capsys.readouterr().out) == ROWS
        assert run("drops") == 0
        assert capsys.readouterr() == ("", "No drops found.\n")
        assert run("trace", "default/web", "[fd43::1]:53", "--protocol", "UDP") == 0
        assert capsys.readouterr().out == "from default/web to fd43::1, port 53/UDP\nallowed\n"
        assert run("trace", "default/web", "10.43.0.1") == 1
        assert "TO has a port" in capsys.readouterr().err


def test_without_an_agent_it_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--socket", str(tmp_path / "none"), "network"]) == 1
    assert "systemctl start edgeagent" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["network", "--help"])
    said = capsys.readouterr().out
    assert "edgeagent network trace default/web default/db:5432" in said
    assert "edgeagent network trace --protocol UDP default/web [fd43::a]:53" in said


@pytest.mark.parametrize("option", [["--protocol", "UDP"], ["--protocol=UDP"]])
@pytest.mark.parametrize("place", range(4))
def test_options_of_a_trace_stand_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], place: int
) -> None:
    socket = tmp_path / "api.sock"
    words = ["trace", "default/web", "default/db:53"]
    words[place:place] = option
    with agent(socket):
        assert main(["--socket", str(socket), "network", *words, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == "from default/web to default/db, port 53/UDP"


@pytest.mark.parametrize("place", range(5))
def test_options_of_a_trace_by_the_hub_stand_anywhere(ctl: Ctl, config: int, place: int) -> None:
    words = ["n1", "trace", "default/web", "default/db:53"]
    words[place:place] = ["--protocol", "UDP"]
    with ScriptedHub(config, lambda call: call.reply(NetworkResult(lines=["allowed"]))) as hub:
        done = ctl("network", *words)
        assert (done.code, done.out) == (0, "allowed\n")
        asked = hub.calls[0].params
        assert (asked["source"], asked["target"], asked["protocol"]) == ("default/web", "default/db", "UDP")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trace", "--protocl", "UDP", "a", "b:1"], "unrecognized arguments: --protocl"),
        (["trace", "--protocol", "ICMP", "a", "b:1"], "invalid choice: 'ICMP'"),
        (["--protocol", "UDP", "traces", "a"], "invalid choice: 'traces'"),
    ],
)
def test_wrong_words_are_named(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["network", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ends", "source", "target", "port"),
    [
        (["10.0.0.1", "10.0.0.2:80"], "10.0.0.1", "10.0.0.2", 80),
        (["[fd42::1]", "[fd43::1]:443"], "fd42::1", "fd43::1", 443),
        (["fd42::1", "default/site:65535"], "fd42::1", "default/site", 65535),
    ],
)
def test_ends(ends: list[str], source: str, target: str, port: int) -> None:
    options = argparse.Namespace(what="trace", ends=ends, protocol="TCP")
    assert wanted(options) == NetworkParams(
        what="trace", source=source, target=target, port=port, protocol="TCP"
    )


@pytest.mark.parametrize(
    ("what", "ends", "said"),
    [
        ("trace", ["a"], "two words"),
        ("trace", ["a", "b:1", "c"], "two words"),
        ("trace", ["a", "b"], "TO has a port"),
        ("trace", ["a", ":80"], "TO has a port"),
        ("trace", ["a", "b:0"], "TO has a port"),
        ("trace", ["a", "b:70000"], "TO has a port"),
        ("trace", ["a", "fd43::1:80"], "in brackets"),
        ("drops", ["a"], "drops takes nothing more"),
    ],
)
def test_what_are_no_ends(what: str, ends: list[str], said: str) -> None:
    with pytest.raises(BadEndsError, match=said):
        wanted(argparse.Namespace(what=what, ends=ends, protocol="TCP"))


def test_through_the_hub(ctl: Ctl, config: int) -> None:
    with ScriptedHub(
        config, lambda call: call.reply(NetworkResult(columns=list(ROWS[0]), rows=ROWS, truncated=True))
    ) as hub:
        done = ctl("network", "n1")
        assert (done.code, hub.calls[0].method, hub.calls[0].target) == (0, "network", "n1")
        assert hub.calls[0].params == {"what": "services"}
        assert done.out.splitlines()[0].split() == ["NAMESPACE", "NAME", "HITS"]
        assert "there are more" in done.err
        assert json.loads(ctl("network", "n1", "policies", "-o", "json").out) == ROWS
    with ScriptedHub(config, lambda call: call.reply(NetworkResult(lines=["one", "allowed"]))) as hub:
        done = ctl("network", "n1", "trace", "--protocol=UDP", "default/web", "default/db:53")
        assert (done.code, done.out) == (0, "one\nallowed\n")
        assert hub.calls[0].params == {
            "what": "trace", "source": "default/web", "target": "default/db",
            "port": 53, "protocol": "UDP",
        }  # fmt: skip
        done = ctl("network", "n1", "trace", "default/web")
        assert (done.code, len(hub.calls)) == (1, 1)
        assert "trace takes two words" in done.err
    with ScriptedHub(config, lambda call: call.fail(RpcError("NodeOffline", "n1 is away"))):
        assert ctl("network", "n1").err == "Error from server (NodeOffline): n1 is away\n"
