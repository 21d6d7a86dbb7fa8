"""Two readings as ``top`` shows them: the window, rates, who is asked for, how much goes into an answer."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod, PodSpec, PodStatus
from edgeagent.api.runtime import LABEL_CONTAINER, ContainerRecord
from edgeagent.node.usage.metrics import duration
from edgeagent.node.usage.reader import UsageReader
from edgeagent.node.usage.window import LONGEST_SECONDS
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.top import TopPodsParams
from tests.node.test_usage_files import write
from tests.node.usagekit import usage_reads


class Pods:
    """Pods ``default/p0``, ``p1`` … and one in another namespace, with a running container each."""

    def __init__(self, root: Path, count: int = 2) -> None:
        self.root = root
        self.started_at = 0.0
        self.names = [("default", f"p{number}") for number in range(count)] + [("shop", "p0")]
        write(root, {"sys/fs/cgroup/cgroup.controllers": "cpu memory"})
        for pid in self.pids():
            write(root, {f"proc/{pid}/cgroup": f"0::/{self.id(pid)}\n"})

    def pids(self) -> range:
        """Main processes, in the order of ``names``."""
        return range(100, 100 + len(self.names))

    def id(self, pid: int) -> str:
        """The container of a process."""
        return f"container-{pid}"

    def use(self, pid: int, microseconds: int, memory: int = 1 << 20) -> None:
        """What its cgroup counts."""
        folder = f"sys/fs/cgroup/{self.id(pid)}"
        write(self.root, {
            f"{folder}/cpu.stat": f"usage_usec {microseconds}\n", f"{folder}/memory.current": f"{memory}\n",
        })  # fmt: skip

    def statuses(self) -> list[tuple[Pod, PodStatus]]:
        """As the pod manager has it."""
        spec = PodSpec(containers=[Container(name="main", image="busybox:1")])
        return [
            (
                Pod(
                    api_version="v1",
                    metadata=ObjectMeta(name=name, namespace=ns, uid=f"{ns}-{name}"),
                    spec=spec,
                ),
                PodStatus(),
            )
            for ns, name in self.names
        ]

    def containers_of(self, uid: str) -> list[ContainerRecord]:
        """The one that runs, one that has ended, and one that holds namespaces alone."""
        place = [f"{ns}-{name}" for ns, name in self.names].index(uid)
        pid = self.pids()[place]
        running = ContainerRecord(
            id=self.id(pid), name="c", image="sha256:1", labels={LABEL_CONTAINER: "main"}, state="running",
            pid=pid, started_at=self.started_at,
        )  # fmt: skip
        ended = msgspec.structs.replace(running, id="old", state="exited", pid=0)
        pause = msgspec.structs.replace(running, id="pause", labels={}, pid=1)
        return [ended, pause, running]


async def while_time_goes_by(clock: ManualClock, asked: Awaitable[object]) -> object:
    """The answer, with the clock moved on a second at a time until it is there."""
    task = asyncio.ensure_future(asked)
    while not task.done():
        await asyncio.wait([task], timeout=0.02)
        if not task.done():
            await clock.advance(1.0)
    return task.result()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_the_first_question_takes_a_second_and_the_next_ones_none(tmp_path: Path) -> None:
    pods, clock = Pods(tmp_path), ManualClock()
    for pid in pods.pids():
        pods.use(pid, 1_000_000, 2 << 20)
    reads = usage_reads(pods=pods, root=tmp_path, clock=clock)

    async def scenario() -> None:
        task = asyncio.ensure_future(reads.pods())
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done, "it waits for its second reading"
        for pid in pods.pids():
            pods.use(pid, 1_250_000, 3 << 20)
        await clock.advance(1.0)
        first = await task
        assert [(one.metadata.namespace, one.metadata.name) for one in first] == pods.names
        assert first[0].window == "1s"
        (main,) = first[0].containers
        assert (main.name, main.usage) == ("main", {"cpu": "250000000n", "memory": "3072Ki"})
        await clock.advance(10)
        pods.use(100, 6_250_000)
        second = await asyncio.wait_for(reads.pods("default", "p0"), 5)
        assert second[0].window == "10s"
        assert second[0].containers[0].usage["cpu"] == "500000000n"

    run(scenario)


def test_a_reading_that_is_old_is_no_beginning(tmp_path: Path) -> None:
    pods, clock = Pods(tmp_path), ManualClock()
    reads = usage_reads(pods=pods, root=tmp_path, clock=clock)

    async def scenario() -> None:
        await while_time_goes_by(clock, reads.pods())
        await clock.advance(LONGEST_SECONDS + 1)
        found = await while_time_goes_by(clock, reads.node())
        assert found.window in ("1s", "2s")  # type: ignore[attr-defined]

    run(scenario)


def test_a_container_that_began_meanwhile_is_measured_since_its_start(tmp_path: Path) -> None:
    pods, clock = Pods(tmp_path, count=1), ManualClock()
    reads = usage_reads(pods=pods, root=tmp_path, clock=clock)

    async def scenario() -> None:
        await while_time_goes_by(clock, reads.pods())  # nothing is counted yet
        await clock.advance(8)
        pods.started_at = clock.now()
        await clock.advance(2)
        pods.use(100, 1_000_000)
        (found,) = await reads.pods("default")
        assert found.containers[0].usage["cpu"] == "500000000n"

    run(scenario)


def test_calls(tmp_path: Path) -> None:
    pods, clock = Pods(tmp_path, count=40), ManualClock()
    write(tmp_path, {"proc/stat": "cpu 1 1 1 1 1 1 1 1\n", "proc/meminfo": "MemTotal: 9 kB\nMemFree: 4 kB\n"})
    reads = usage_reads(pods=pods, root=tmp_path, clock=clock)

    async def scenario() -> None:
        result = await while_time_goes_by(clock, reads.top_call(msgspec.Raw(b"{}"), 1_000_000))
        assert result.node.usage == {"cpu": "0n", "memory": "5Ki"}  # type: ignore[attr-defined]
        assert len(result.pods) == 41  # type: ignore[attr-defined]
        await clock.advance(1)
        asked = msgspec.Raw(canonical_json(TopPodsParams(namespace="shop")))
        one = await reads.top_pods_call(asked, 1_000_000)
        assert (one.node, len(one.pods), one.truncated) == (None, 1, False)
        await clock.advance(1)
        cut = await reads.top_call(msgspec.Raw(b"{}"), 4000)
        assert cut.truncated
        assert 0 < len(cut.pods) < 41
        assert len(canonical_json(cut)) < 4000
        await clock.advance(1)
        with pytest.raises(PermanentError, match='"absent" not found') as caught:
            await reads.pods("default", "absent")
        assert caught.value.reason == "NotFound"

    run(scenario)


def test_a_node_without_a_runtime(tmp_path: Path) -> None:
    async def scenario() -> None:
        reader = UsageReader(node="n1", root=tmp_path, clock=ManualClock(), pods=None)
        assert (await reader.read()).pods == []

    run(scenario)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "1s"), (10.0624, "10.062s"), (0, "0s"), (20, "20s"), (0.5, "0.5s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
