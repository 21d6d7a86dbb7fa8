"""Container logs, from real containers through a whole agent to Elasticsearch's API, come what may."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.httpreceiver import says
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


@pytest.fixture
def receiver() -> Iterator[ElasticsearchReceiver]:
    with ElasticsearchReceiver() as receiver:
        yield receiver


@pytest.fixture
def lone(tmp_path: Path, podman: PodmanService, receiver: ElasticsearchReceiver) -> Iterator[LoneAgent]:
    extra = '[logs]\nmax_size = "64Ki"\n[telemetry]\ndrain_rate = "8Mi"\n' + SINK.format(url=receiver.url)
    with LoneAgent(tmp_path, podman, extra=extra, network=False, name="logs") as lone:
        yield lone


def counting(name: str, lines: int, pause: str = "0.01") -> dict[str, object]:
    """A pod that says ``<name> <number>`` so often, and ends."""
    script = f"i=0; while [ $i -lt {lines} ]; do echo {name} $i; i=$((i+1)); sleep {pause}; done"
    return static_pod(name, ["sh", "-c", script], restartPolicy="Never")


def numbers(receiver: ElasticsearchReceiver, name: str) -> list[int]:
    """The numbers of that pod's lines that have arrived, in no order, each as often as it did."""
    found = [re.fullmatch(rf"{name} (\d+)", message) for message in receiver.messages()]
    return [int(one[1]) for one in found if one]


@pytest.mark.slow
def test_a_killed_agent_loses_no_line_and_sends_none_twice(
    lone: LoneAgent, receiver: ElasticsearchReceiver
) -> None:
    """Logs are rotated meanwhile, every 64 KiB, and the receiver is not always well."""
    rng, lines = random.Random(3), 3000
    with lone.running(counting("count", lines), counting("other", 500), until=lambda status: True):
        for kill in range(KILLS):
            wanted = min(lines, len(numbers(receiver, "count")) + rng.randrange(50, 300))
            if kill % 3 == 1:
                receiver.faults.append(says(503))
            wait_for(lambda: len(numbers(receiver, "count")) >= wanted, 60, "some lines")  # noqa: B023
            lone.restart(kill=True)
        for name, count in (("count", lines), ("other", 500)):
            wait_for(lambda: len(set(numbers(receiver, name))) == count, 120, f"all lines of {name}")  # noqa: B023
            assert sorted(numbers(receiver, name)) == list(range(count)), "each line once"
    (index,) = receiver.documents
    some = next(one for one in receiver.documents[index].values() if one["message"].startswith("count"))
    assert some["k8s.pod.name"] == lone.full_name("count")
    assert some["k8s.container.name"] == "main"


def test_lines_wait_while_the_sink_is_away(lone: LoneAgent, receiver: ElasticsearchReceiver) -> None:
    receiver.gate.clear()
    with lone.running(counting("away", 200, "0"), until=has_ended):
        waiting = lambda: lone.read("/edge/v1/status")["logsWaiting"]  # noqa: E731
        wait_for(lambda: waiting() >= 200, 30, "lines to wait")
        lone.restart(kill=True)
        receiver.gate.set()
        wait_for(lambda: sorted(numbers(receiver, "away")) == list(range(200)), 60, "all lines")
        wait_for(lambda: waiting() == 0, 30, "nothing to wait")
        [sink] = lone.read("/edge/v1/status")["logSinks"]
        assert sink["name"] == "logs/es"
        assert sink["problem"] == ""
