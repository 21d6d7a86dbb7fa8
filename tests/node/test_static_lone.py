"""A node by itself: its name, an identity that is absent or broken, and what its local API tells."""

import asyncio
import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.node import NodeStatus
from edgeagent.cli.edgeagent import main
from edgeagent.node.events import REMEMBERED, EventRecorder
from edgeagent.node.identity import NOT_ENROLLED, IdentityDir, lone_name
from edgeagent.node.localapi import LocalApi
from edgeagent.node.reads import NodeReads
from edgeagent.node.store.database import Database
from edgeagent.node.store.outbox import Outbox
from tests.node.plugin_kit import VirtualClock
from tests.node.usagekit import usage_reads

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("gateway", "gateway"),
        ("Gateway-7.Plant.Example", "gateway-7"),
        ("raspberry_pi", "raspberry-pi"),
        ("-odd-", "odd"),
        ("x" * 64, "x" * 63),
    ],
)
def test_a_lone_node_has_its_host_name(hostname: str, name: str) -> None:
    assert lone_name("", hostname) == name
    assert lone_name("chosen", hostname) == "chosen"


@given(st.text(max_size=80))
def test_a_lone_nodes_name_can_always_be_used_or_the_error_says_what_to_do(hostname: str) -> None:
    if not re.search("[a-z0-9]", hostname.lower().partition(".")[0][:63], re.ASCII):
        with pytest.raises(PermanentError, match="set node_name in"):
            lone_name("", hostname)
        return
    name = lone_name("", hostname)
    assert len(name) <= 63
    assert LABEL.fullmatch(name)


def test_a_configured_name_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(PermanentError, match=r"agent\.node_name"):
        lone_name("No Label", "host")


def test_no_identity_is_none_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    directory = IdentityDir(tmp_path / "identity")
    assert directory.load_if_enrolled() is None
    directory.path.mkdir()
    # An enrolment that was cut off: the identity itself is written last.
    directory.private_key.write_text("key")
    assert directory.load_if_enrolled() is None
    with pytest.raises(PermanentError) as absent:
        directory.load()
    assert absent.value.reason == NOT_ENROLLED
    (directory.path / "identity.json").write_text('{"cluster": 5}')
    with pytest.raises(PermanentError, match=r"identity\.json: "):
        directory.load_if_enrolled()


class Door:
    """A local socket with events behind it, and an agent's summary."""

    def __init__(self, directory: Path, summary: dict[str, object]) -> None:
        self.clock = VirtualClock()
        database = Database(directory / "agent.db", now=0)
        self.close = database.close
        self.events = EventRecorder(
            node="n1",
            outbox=Outbox(database),
            clock=self.clock,
            rng=random.Random(1),
            on_append=lambda: None,
        )
        reads = NodeReads(
            name="n1", pods=None, status=NodeStatus, usage=usage_reads(), events=self.events.recent
        )
        self.socket = directory / "api.sock"
        self.api = LocalApi(self.socket, reads, services={}, agent_status=lambda: summary)

    def record(self, name: str, reason: str, namespace: str = "default") -> None:
        """An event about a pod."""
        about = ObjectReference(kind="Pod", namespace=namespace, name=name, uid=f"uid-{name}")
        self.events.record(about, "Normal", reason, f"{reason} {name}")
        self.clock.advance(1)

    def run(self, *commands: list[str]) -> list[int]:
        """The technician's commands, one after the other; their exit statuses."""

        async def scenario() -> list[int]:
            self.api.start()
            try:
                return [
                    await asyncio.to_thread(main, ["--socket", str(self.socket), *command])
                    for command in commands
                ]
            finally:
                await self.api.stop()

        try:
            return asyncio.run(scenario())
        finally:
            self.close()


LONE = {
    "node": "n1",
    "cluster": "",
    "enrolled": False,
    "broker": "",
    "connected": False,
    "lastError": "",
    "generation": 0,
    "outbox": 0,
    "status": NodeStatus(),
    "staticPods": {"path": "/m", "objects": 2, "problems": {"/m/a.yaml": "document 1: \x1b[31mbad"}},
}


def test_status_says_that_a_node_is_alone_and_which_file_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Door(tmp_path, LONE).run(["status"]) == [0]
    shown = capsys.readouterr().out
    assert "n1 (not enrolled)" in shown
    assert "2 objects in /m" in shown
    assert "/m/a.yaml: document 1: " in shown
    assert "\x1b" not in shown
    assert "Generation" not in shown


def test_events_can_be_read_on_the_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    door = Door(tmp_path, LONE)
    door.record("web", "Created")
    door.record("db", "Pulled", "edge")
    door.record("web", "Started")
    door.record("web", "Started")
    assert door.run(["get", "events", "-o", "json"], ["get", "ev", "-A"], ["get", "event", "-n", "none"]) == [
        0,
        0,
        0,
    ]
    out = capsys.readouterr().out
    listed, end = json.JSONDecoder().raw_decode(out)
    assert [(e["reason"], e.get("count", 1)) for e in listed["items"]] == [("Created", 1), ("Started", 2)]
    assert "Pulled db" in out[end:]


def test_one_event_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    door = Door(tmp_path, LONE)
    door.record("web", "Created")
    (event,) = door.events.recent()
    commands = [["get", "event", name, "-o", "json"] for name in (event.metadata.name, "absent")]
    assert door.run(*commands) == [0, 1]
    done = capsys.readouterr()
    assert json.loads(done.out)["reason"] == "Created"
    assert 'events "absent" not found' in done.err


def test_no_more_events_are_kept_in_mind_than_a_few_hundred(tmp_path: Path) -> None:
    door = Door(tmp_path, LONE)
    for number in range(REMEMBERED + 10):
        door.record(f"p{number}", "Created")
    recent = door.events.recent()
    door.close()
    assert len(recent) == REMEMBERED
    assert recent[-1].involved_object.name == f"p{REMEMBERED + 9}"
