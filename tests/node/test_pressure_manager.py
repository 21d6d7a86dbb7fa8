"""The manager as a whole: what it does, in which order, and what it leaves alone.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from pathlib import Path

import pytest

from edgeagent.node.config import EvictionSection
from edgeagent.node.pressure.manager import PressureManager
from edgeagent.node.pressure.pods import DiskUsage, RunningContainer
from edgeagent.node.pressure.thresholds import Reading, Signal
from tests.node.pressurekit import MI, Node, Step, play


def test_an_idle_node_is_looked_at_every_five_minutes() -> None:
    async def scenario(node: Node, manager: PressureManager) -> None:
        node.readings["memory.available"] = Reading(80_000 * MI, 81_920 * MI)
        await node.clock.advance(300)
        before = node.looks
        await node.clock.advance(3000)
        assert node.looks - before == 10
        assert (node.evicted, node.said, node.shown) == ([], [], [])
        assert [one.status for one in manager.conditions] == [False] * 3

    play(scenario, Node())


def test_memory_pressure_evicts_one_pod_at_a_look_until_there_is_enough() -> None:
    node = Node()
    for number, uid in enumerate("abc"):
        node.add(uid, priority=number)
        node.memory[uid] = 60 * MI
    node.set("memory.available", 10 * MI)

    async def scenario(node: Node, manager: PressureManager) -> None:
        assert node.evicted == [("a", 0)], "hard: at once, and without grace"
        assert node.shown == [{"MemoryPressure"}]
        assert (
            node.gate.why_shut("BestEffort", critical=False) == "The node had condition: [MemoryPressure]. "
        )
        await node.clock.advance(9.9)
        assert len(node.evicted) == 1
        await node.clock.advance(0.1)
        assert node.evicted == [("a", 0), ("b", 0)]
        assert node.readings["memory.available"].available == 130 * MI
        assert node.messages[0].startswith(
            "The node was low on resource: memory. Threshold quantity: 5%, 100Mi, available: 10240Ki. "
            "Container main was using 61440Ki, request is 0, has larger consumption of memory. "
        )
        assert node.relieved == 0
        await node.clock.advance(299)
        assert node.shown == [{"MemoryPressure"}]
        await node.clock.advance(22)
        assert node.shown == [{"MemoryPressure"}, set()]
        assert (node.relieved, len(node.evicted)) == (1, 2)
        assert [word for word in node.said if word.startswith("Node")] == [
            "Node NodeHasInsufficientMemory", "Node EvictionThresholdMet", "Node NodeHasSufficientMemory",
        ]  # fmt: skip

    play(scenario, node)


def test_a_soft_threshold_gives_grace() -> None:
    config = EvictionSection(
        soft={"memory.available": "500Mi"},
        soft_grace_period={"memory.available": "1m"},
        max_pod_grace_period=20,
    )
    node = Node()
    node.add("a")
    node.memory["a"] = 1000 * MI
    node.set("memory.available", 400 * MI)

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(59)
        assert node.evicted == []
        await node.clock.advance(1)
        assert node.evicted == [("a", 20)]

    play(scenario, node, config)


def test_on_a_full_disk_everything_else_goes_before_a_pod() -> None:
    node = Node()
    node.add("a")
    node.disk["a"] = DiskUsage(containers={"main": 9000 * MI})
    node.set("nodefs.available", 1000 * MI)
    steps = [Step(node, "dead containers", 4000 * MI), Step(node, "images", 6000 * MI)]

    async def scenario(node: Node, manager: PressureManager) -> None:
        assert node.reclaimed == ["dead containers", "images"]
        assert node.evicted == []
        assert node.shown == [{"DiskPressure"}]

    play(scenario, node, steps=steps)


@pytest.mark.parametrize("signal", ["nodefs.available", "imagefs.available"])
def test_of_two_disks_the_one_that_is_short_is_relieved(signal: Signal) -> None:
    node = Node()
    node.two_disks = True
    node.readings[signal] = Reading(1 * MI, 100_000 * MI)
    node.add("layer")
    node.add("volume")
    node.disk["layer"] = DiskUsage(containers={"main": 9000 * MI}, images={"main": 8999 * MI})
    node.disk["volume"] = DiskUsage({"v": 8000 * MI}, {"main": 0}, images={"main": 0})

    async def scenario(node: Node, manager: PressureManager) -> None:
        on_images = signal == "imagefs.available"
        assert node.reclaimed == (["images", "logs"] if on_images else ["logs"])
        assert node.evicted == [("layer" if on_images else "volume", 0)]

    play(scenario, node, steps=[Step(node, "images", 0)])


def test_rotated_logs_are_the_last_to_go_before_a_pod() -> None:
    node = Node()
    node.add("a")
    node.disk["a"] = DiskUsage(containers={"main": 9000 * MI})
    node.set("nodefs.available", 1000 * MI)

    async def scenario(node: Node, manager: PressureManager) -> None:
        assert node.reclaimed == ["images", "logs"]
        assert node.evicted == [("a", 0)]

    play(scenario, node, steps=[Step(node, "images", 10 * MI)])


def test_a_disk_that_others_filled_leaves_every_pod_running() -> None:
    node = Node()
    for uid in "abc":
        node.add(uid)
        node.disk[uid] = DiskUsage(containers={"main": 5 * MI})
    node.set("nodefs.available", 0)

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(3600)
        assert node.evicted == []
        assert set(node.pods) == set("abc")
        assert node.gate.why_shut("Guaranteed", critical=False)
        assert node.restored > 100
        assert node.measured <= 61, "folders are not walked through all the time"
        assert len(node.said) == 2, "a full disk is not filled with events"

    play(scenario, node)


def test_the_pod_that_filled_the_disk_is_evicted_and_the_others_stay() -> None:
    node = Node()
    for uid, used in (("a", 5), ("hog", 20_000), ("b", 50)):
        node.add(uid, priority=100 if uid == "hog" else 0)
        node.disk[uid] = DiskUsage(volumes={"data": used * MI})
    node.set("nodefs.available", 0)

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(1000)
        assert node.evicted == [("hog", 0)]
        assert (node.relieved, node.shown) == (1, [{"DiskPressure"}, set()])

    play(scenario, node)


def test_a_pod_that_waits_for_its_restart_is_evicted_for_what_it_left_on_the_disk() -> None:
    node = Node()
    node.add("crashing", containers=[RunningContainer("main", "id-crashing", 0)])
    node.add("b")
    node.disk = {"crashing": DiskUsage({"v": 1000 * MI}), "b": DiskUsage({"v": 1 * MI})}
    node.set("nodefs.available", 1 * MI)

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(60)
        assert node.evicted == [("crashing", 0)]

    play(scenario, node)


def test_a_pod_that_waits_for_its_restart_keeps_to_its_limits() -> None:
    node = Node()
    ended = [RunningContainer("main", "id-crashing", 0)]
    node.add("crashing", containers=ended, volume_limits={"cache": 10.0 * MI})
    node.disk = {"crashing": DiskUsage({"cache": 11 * MI})}

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(120)
        assert node.evicted == [("crashing", 0)]

    play(scenario, node)


def test_without_process_ids_the_least_important_pod_goes() -> None:
    node = Node()
    node.add("many", priority=1)
    node.add("few")
    node.add("static", priority=-1, critical=True)
    node.pids = {"many": 9000, "few": 10, "static": 10}
    node.set("pid.available", 100)

    async def scenario(node: Node, manager: PressureManager) -> None:
        assert node.evicted == [("few", 0)]
        await node.clock.advance(20)
        assert node.evicted == [("few", 0), ("many", 0)]

    play(scenario, node)


def test_a_limit_exceeded_evicts_that_pod_alone() -> None:
    node = Node()
    node.add("a", volume_limits={"cache": 10.0 * MI})
    node.add("b")
    node.disk = {"a": DiskUsage({"cache": 5 * MI}), "b": DiskUsage({"cache": 500 * MI})}

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(120)
        assert node.evicted == []
        node.disk["a"] = DiskUsage({"cache": 11 * MI})
        await node.clock.advance(60)
        assert node.evicted == [("a", 0)]
        assert node.messages == ['Usage of EmptyDir volume "cache" exceeds the limit "10240Ki". ']
        assert node.shown == []
        count = node.measured
        await node.clock.advance(3600)
        assert node.measured == count, "without limits nothing is measured"

    play(scenario, node)


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_pod_that_does_not_end_keeps_nobody_else(how: str) -> None:
    node = Node()
    node.add("stuck")
    node.add("next", priority=1)
    node.memory = {"stuck": 60 * MI, "next": 600 * MI}
    node.set("memory.available", 10 * MI)
    setattr(node, how, True)

    async def scenario(node: Node, manager: PressureManager) -> None:
        assert node.evicted == [("stuck", 0)]
        await node.clock.advance(59)
        setattr(node, how, False)
        await node.clock.advance(11)
        assert node.evicted[-1] == ("next", 0)

    play(scenario, node)


def test_a_look_that_fails_is_taken_again(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()

    async def scenario(node: Node, manager: PressureManager) -> None:
        node.unreadable = True
        await node.clock.advance(300)
        assert "could not be looked at: [Errno 5] Input/output error" in caplog.text
        node.unreadable = False
        node.add("a")
        node.memory = {"a": 60 * MI}
        node.set("memory.available", 10 * MI)
        await node.clock.advance(60)
        assert node.evicted == [("a", 0)]

    play(scenario, node)


def test_a_container_that_starts_is_looked_at_soon_and_a_hundred_bring_no_storm() -> None:
    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(100)
        before = node.looks
        manager.started()
        await node.clock.advance(9)
        assert node.looks == before
        await node.clock.advance(1)
        assert node.looks == before + 1
        for _ in range(100):
            manager.started()
            await node.clock.advance(0.125)
        assert node.looks == before + 2, "one in ten seconds"

    play(scenario, Node())


def test_the_kernels_word_brings_a_look_at_once_but_no_storm() -> None:
    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(5)
        before = node.looks
        for _ in range(5):
            node.stall()
            await node.clock.advance(0.1)
        assert node.looks == before + 1
        node.add("a")
        node.memory["a"] = 600 * MI
        node.set("memory.available", 50 * MI)
        await node.clock.advance(1)
        node.stall()
        await node.clock.settle()
        assert node.evicted == [("a", 0)]

    play(scenario, Node())


def test_pods_that_were_evicted_before_a_restart_come_back_too() -> None:
    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(299)
        assert node.relieved == 0
        await node.clock.advance(1)
        assert node.relieved == 1
        await node.clock.advance(3600)
        assert node.relieved == 1

    play(scenario, Node())


def test_no_relief_while_pressure_lasts() -> None:
    node = Node()
    node.set("nodefs.available", 0)

    async def scenario(node: Node, manager: PressureManager) -> None:
        await node.clock.advance(1000)
        assert node.relieved == 0
        node.set("nodefs.available", 50_000 * MI)
        await node.clock.advance(290)
        assert node.relieved == 0
        await node.clock.advance(20)
        assert node.relieved == 1

    play(scenario, node)


def test_being_cancelled_during_an_eviction_leaves_nothing_behind(tmp_path: Path) -> None:
    node = Node(hangs=True)
    node.add("a")
    node.memory["a"] = 60 * MI
    node.set("memory.available", 10 * MI)

    async def scenario(node: Node, manager: PressureManager) -> None:
        assert node.evicted == [("a", 0)]

    play(scenario, node)
