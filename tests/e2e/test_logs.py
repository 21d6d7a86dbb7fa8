"""Container logs, from real containers through a whole agent to Elasticsearch's API, come what may."""

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import Answer, HttpReceiver, Request, says
from tests.support.lone import LoneAgent, has_ended, static_pod
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

SINK = """
[plugins.logs]
gather_seconds = 0.05
[plugins.logs.journal]
agent = ""
[[plugins.logs.sinks]]
type = "elasticsearch"
name = "es"
url = "{url}"
"""
KILLS = 8
MEBIBYTE = 1 << 20


class Numbered(ElasticsearchReceiver):
    """Keeps an account of the lines ``<name> <number>``: all others are too many to be looked through."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, dict[str, int]] = {}
        self.notes: set[str] = set()
        self.item_fault = self._note

    def _note(self, uid: str, document: dict[str, Any]) -> None:
        if found := re.fullmatch(r"(\w+) (\d+)", document["message"]):
            self.numbers.setdefault(found[1], {})[uid] = int(found[2])
        elif "were left out" in document["message"]:
            self.notes.add(document["message"])

    def of(self, name: str) -> list[int]:
        """The numbers of that pod's lines that have arrived, each as often as it did under another id."""
        return sorted(self.numbers.get(name, {}).values())


class Quick(HttpReceiver):
    """Believes what it gets, for it gets much: takes the same account by the bytes of a whole request."""

    content_types = frozenset({"application/x-ndjson"})

    def __init__(self) -> None:
        super().__init__()
        self.numbers: dict[str, list[int]] = {}
        self.notes: set[bytes] = set()

    def serve(self, request: Request) -> Answer:
        """A bulk request."""
        for name, number in re.findall(rb'"message":"(\w+) (\d+)"', request.body):
            self.numbers.setdefault(name.decode(), []).append(int(number))
        self.notes.update(re.findall(rb'"message":"([^"]*were left out[^"]*)"', request.body))
        self.requests.clear()
        return Answer(200, b'{"errors":false}', {"Content-Type": "application/json"})

    def of(self, name: str) -> list[int]:
        """As ``Numbered.of``."""
        return sorted(self.numbers.get(name, []))


@pytest.fixture
def receiver() -> Iterator[Numbered]:
    with Numbered() as receiver:
        yield receiver


@pytest.fixture
def quick() -> Iterator[Quick]:
    with Quick() as receiver:
        yield receiver


@pytest.fixture
def lone(tmp_path: Path, podman: PodmanService, receiver: Numbered) -> Iterator[LoneAgent]:
    extra = '[logs]\nmax_size = "64Ki"\n[telemetry]\ndrain_rate = "8Mi"\n' + SINK.format(url=receiver.url)
    with LoneAgent(tmp_path, podman, extra=extra, network=False, name="logs") as lone:
        yield lone


def counting(name: str, lines: int, pause: str = "0.01") -> dict[str, object]:
    """A pod that says ``<name> <number>`` so often, and ends."""
    sleep = f"sleep {pause}" if float(pause) else "true"
    script = f"i=0; while [ $i -lt {lines} ]; do echo {name} $i; i=$((i+1)); {sleep}; done"
    return static_pod(name, ["sh", "-c", script], restartPolicy="Never")


@pytest.mark.slow
def test_a_killed_agent_loses_no_line_and_sends_none_twice(lone: LoneAgent, receiver: Numbered) -> None:
    """Logs are rotated meanwhile, every 64 KiB, and the receiver is not always well."""
    rng, lines = random.Random(3), 3000
    with lone.running(counting("count", lines), counting("other", 500), until=lambda status: True):
        for kill in range(KILLS):
            wanted = min(lines, len(receiver.of("count")) + rng.randrange(50, 300))
            if kill % 3 == 1:
                receiver.faults.append(says(503))
            wait_for(lambda: len(receiver.of("count")) >= wanted, 60, "some lines")  # noqa: B023
            lone.restart(kill=True)
        for name, count in (("count", lines), ("other", 500)):
            wait_for(lambda: len(set(receiver.of(name))) == count, 120, f"all lines of {name}")  # noqa: B023
            assert receiver.of(name) == list(range(count)), "each line once"
    (index,) = receiver.documents
    some = next(one for one in receiver.documents[index].values() if one["message"].startswith("count"))
    assert some["k8s"]["pod"]["name"] == lone.full_name("count")
    assert some["k8s"]["container"]["name"] == "main"


@pytest.mark.installed
def test_lines_wait_while_the_sink_is_away(lone: LoneAgent, receiver: Numbered) -> None:
    receiver.gate.clear()
    with lone.running(counting("away", 200, "0"), until=has_ended):
        wait_for(lambda: waiting(lone) >= 200, 30, "lines to wait")
        lone.restart(kill=True)
        receiver.gate.set()
        wait_for(lambda: receiver.of("away") == list(range(200)), 60, "all lines")
        wait_for(lambda: waiting(lone) == 0, 30, "nothing to wait")
        [sink] = lone.read("/edge/v1/status")["logSinks"]
        assert sink["name"] == "logs/es"
        assert sink["problem"] == ""


@pytest.mark.slow
def test_a_container_gone_mad_harms_nobody(tmp_path: Path, podman: PodmanService, quick: Quick) -> None:
    """It writes as fast as the runtime takes it, for a minute of another's lines."""
    receiver = quick
    extra = '[logs]\nmax_size = "10Mi"\nmax_files = 3\n' + SINK.format(url=receiver.url)
    with LoneAgent(tmp_path, podman, extra=extra, network=False, name="mad") as lone:
        with lone.running(counting("before", 5000, "0"), until=has_ended):
            wait_for(lambda: receiver.of("before") == list(range(5000)), 30, "the sink to be in use")
        pid = lone.agent.process.pid
        assert pid is not None
        calm_memory = resident(pid)
        mad = static_pod("mad", ["yes", "mad " + "x" * 120])
        with lone.running(mad):
            log = Path(str(lone.inspect("mad")["HostConfig"]["LogConfig"]["Path"]))
            biggest = largest_log = 0
            with lone.running(counting("calm", 110, "0.5"), until=lambda status: True):
                arrived = -1
                while arrived < 110:
                    news = arrived + 15
                    wait_for(lambda: len(receiver.of("calm")) >= min(news, 110), 30, "calm lines")  # noqa: B023
                    arrived = len(receiver.of("calm")) if news < 110 else 110
                    biggest = max(biggest, resident(pid))
                    files = [one.stat().st_size for one in log.parent.glob(f"{log.name}*") if one.exists()]
                    largest_log = max(largest_log, sum(files))
                assert receiver.of("calm") == list(range(110)), "none is dropped"
            written = lone.read("/edge/v1/status")
        assert biggest - calm_memory < 10 * MEBIBYTE
        assert largest_log < 200 * MEBIBYTE
        assert (lone.state_dir / "telemetry.db").stat().st_size < 40 * MEBIBYTE
        assert written["logSinks"][0]["problem"] == ""
        assert receiver.notes, "what is missing is said"


def waiting(lone: LoneAgent) -> int:
    """How many records the sink does not have yet."""
    return int(lone.read("/edge/v1/status")["logsWaiting"])


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
