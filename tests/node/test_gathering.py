"""All collectors asked together: in their lanes, within a deadline, and no bad one spoils the page."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent.api.usage import NodeUsage
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.telemetry.gathering import Gathering
from tests.node.plugin_kit import HEADER, Kit, on_path, stopping

USAGE = NodeUsage(node="n1", time=1.0, monotonic=1.0)

SOURCE = (
    HEADER
    + """
import threading, time
from pathlib import Path
from edgeagent.api.metrics import MetricFamily, Sample

def mark(ctx, name):
    with Path(ctx.run_dir, name).open("a") as file:
        file.write("x")
    return True

def wait(ctx, name):
    while not Path(ctx.run_dir, name).exists():
        time.sleep(0.01)
    return True

class Collector:
    def __init__(self, ctx):
        self.ctx = ctx

    def collect(self, usage):
        return ANSWER(self.ctx, usage)

@hookimpl
def edgeagent_plugin_info():
    return PluginInfo(name=NAME, version="1", summary="s", lane=LaneSpec(**LANE))

@hookimpl
def edgeagent_collectors(ctx):
    return Collector(ctx)
"""
)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Plugins in a folder."""
    with on_path(Kit(tmp_path), monkeypatch) as made:
        yield made


def install(kit: Kit, name: str, answer: str, **lane: object) -> None:
    """A plugin whose collector answers with ``answer``, an expression of ``ctx`` and ``usage``."""
    kit.install(name, f"NAME, LANE = {name!r}, {lane!r}\nANSWER = lambda ctx, usage: {answer}\n{SOURCE}")


def family(name: str, *samples: str, kind: str = "gauge", help: str = "Help.") -> str:
    """The expression of a family."""
    return f"MetricFamily({name!r}, {kind!r}, {help!r}, [{', '.join(samples or ('Sample(1.0)',))}])"


def gathered(kit: Kit, body: Callable[[Gathering, PluginHost], Awaitable[None]]) -> None:
    """Run ``body`` with what gathers of all plugins that were installed."""

    async def usage() -> NodeUsage:
        return USAGE

    async def main() -> None:
        async with stopping(kit.host()) as host:
            own = [MetricFamily("own_metric", "gauge", "Help.", [Sample(1.0)])]
            gathering = Gathering(host.collectors(), own=lambda: own, read_usage=usage, clock=kit.clock)
            try:
                await body(gathering, host)
            finally:
                await gathering.stop()

    asyncio.run(main())


def by_name(families: list[MetricFamily]) -> dict[str, MetricFamily]:
    """The families, each of which is there once."""
    found = {one.name: one for one in families}
    assert len(found) == len(families)
    return found


def value(families: list[MetricFamily], name: str, **labels: str) -> float:
    """The one sample with these labels."""
    (found,) = [sample.value for sample in by_name(families)[name].samples if sample.labels == labels]
    return found


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_collector_answers_from_its_lane_with_what_the_core_has_read(kit: Kit, isolation: str) -> None:
    samples = "Sample(usage.time, {'node': usage.node, 'loop': threading.current_thread().name})"
    install(kit, "meter", f"[{family('meter_time', samples)}]", isolation=isolation)

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        found = await gathering.gather(10.0)
        (sample,) = by_name(found)["meter_time"].samples
        assert (sample.value, sample.labels["node"]) == (1.0, "n1")
        assert sample.labels["loop"] != threading.main_thread().name
        assert value(found, "own_metric") == 1.0
        assert value(found, "edgeagent_collector_success", plugin="meter") == 1.0
        assert value(found, "edgeagent_collector_failures_total", plugin="meter") == 0

    gathered(kit, body)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("['no family']", "expected list[MetricFamily]"),
        (f"[{family('no name')}]", "'no name' is no name of a metric"),
        (
            f"[{family('bad_label', 'Sample(1.0, dict(__name__=str(1)))')}]",
            "'__name__' is no name of a label",
        ),
        (f"[{family('bad_value', 'Sample(1.0, dict(a=1))')}]", "the value of label a is no text"),
        (f"[{family('bad_number', 'Sample(str(1))')}]", "a value is no number"),
        (
            f"[{family('bad_suffix', 'Sample(1.0, {}, str(1))')}]",
            "bad_suffix: it has no samples with the suffix '1'",
        ),
        (f"[{family('own_metric')}]", "own_metric is on the page already, with the labels"),
        (f"[{family('own_metric', help='Another.')}]", "with another type or another help"),
        (f"[{family('huge', 'Sample(10**400)')}]", "a value is no number, or too large"),
        (
            f"[{family('never', 'Sample(1.0, {}, str(), float(chr(110) + chr(97) + chr(110)))')}]",
            "the time of",
        ),
        (f"[{family('someday', 'Sample(1.0, {}, str(), str(1))')}]", "the time of a sample is no number"),
        (f"[{family('listed', 'Sample(1.0, [1])')}]", "labels are no dict"),
        (f"[{family('nothing', 'Sample(1.0, None)')}]", "labels are no dict"),
        (
            f"[{family('odd_suffix', 'Sample(1.0, {}, [])')}]",
            "odd_suffix: it has no samples with the suffix '[]'",
        ),
        (f"[{family('plain', '1.0')}]", "float is no sample"),
        (f"[{family('typed', kind='gouge')}]", "'gouge' is no type of a metric"),
        ("[MetricFamily('untold', 'gauge', None, [Sample(1.0)])]", "its help is no text"),
        ("[MetricFamily('iterated', 'gauge', 'h', iter([]))]", "its samples are no list"),
        ("[MetricFamily('twice', 'gauge', 'h', [Sample(1.0)])] * 2", "twice is on the page already"),
        ("[MetricFamily('many', 'gauge', 'h', [Sample(1.0)] * 20001)]", "more than 20000 samples"),
    ],
)
def test_a_collector_with_nothing_fit_to_show_is_left_out_whole_and_counted(
    kit: Kit, answer: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(kit, "bad", answer if "[" not in answer else f"[{family('bad_but_well')}] + {answer}")
    install(kit, "good", f"[{family('good_metric')}]")

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        for count in (1, 2):
            found = await gathering.gather(10.0)
            assert value(found, "good_metric") == value(found, "own_metric") == 1.0
            assert "bad_but_well" not in by_name(found)
            assert value(found, "edgeagent_collector_success", plugin="bad") == 0
            assert value(found, "edgeagent_collector_success", plugin="good") == 1
            assert value(found, "edgeagent_collector_failures_total", plugin="bad") == count

    gathered(kit, body)
    left_out = [record.getMessage() for record in caplog.records if "are left out" in record.getMessage()]
    assert len(left_out) == 1, "the same trouble is told of once"
    assert problem in left_out[0]


def test_one_that_hangs_costs_the_deadline_once_and_is_not_asked_again_meanwhile(kit: Kit) -> None:
    install(kit, "slow", f"mark(ctx, 'begun') and wait(ctx, 'go') and [{family('slow_metric')}]")
    install(kit, "good", f"[{family('good_metric')}]")

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        found = await gathering.gather(0.2)
        assert "slow_metric" not in by_name(found)
        assert value(found, "good_metric") == 1.0
        found = await gathering.gather(30.0)
        assert value(found, "edgeagent_collector_failures_total", plugin="slow") == 2
        assert kit.run_file("slow", "begun").read_text() == "x"
        kit.run_file("slow", "go").touch()
        while True:
            found = await gathering.gather(30.0)
            if "slow_metric" in by_name(found):
                break
            await asyncio.sleep(0.01)
        assert value(found, "edgeagent_collector_success", plugin="slow") == 1

    gathered(kit, body)


def test_usage_that_is_not_read_in_time_costs_the_collectors_and_not_the_page(kit: Kit) -> None:
    install(kit, "meter", f"[{family('meter_metric')}]")
    asked: list[int] = []
    go = asyncio.Event()

    async def usage() -> NodeUsage:
        asked.append(1)
        await go.wait()
        return USAGE

    async def main() -> None:
        async with stopping(kit.host()) as host:
            own = [MetricFamily("own_metric", "gauge", "Help.", [Sample(1.0)])]
            gathering = Gathering(host.collectors(), own=lambda: own, read_usage=usage, clock=kit.clock)
            try:
                for count in (1, 2):
                    found = await asyncio.wait_for(gathering.gather(0.05), 10)
                    assert value(found, "own_metric") == 1.0
                    assert value(found, "edgeagent_collector_failures_total", plugin="meter") == count
                assert len(asked) == 1, "it is not read again while it has not come back"
                work = asyncio.create_task(gathering.gather(30.0))
                go.set()
                assert value(await asyncio.wait_for(work, 10), "meter_metric") == 1.0
                before = len(asked)
                assert value(await gathering.gather(30.0), "meter_metric") == 1.0
                assert len(asked) == before + 1, "and it is read anew"
            finally:
                await gathering.stop()

    asyncio.run(main())


def test_whoever_asks_meanwhile_gets_the_same(kit: Kit) -> None:
    install(kit, "meter", f"mark(ctx, 'asked') and [{family('meter_metric')}]")

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        one, other = await asyncio.gather(gathering.gather(10.0), gathering.gather(10.0))
        assert by_name(one).keys() == by_name(other).keys()
        assert kit.run_file("meter", "asked").read_text() == "x"

    gathered(kit, body)


def test_two_plugins_may_share_a_family(kit: Kit) -> None:
    for name in ("one", "other"):
        install(kit, name, f"[{family('shared', f'Sample(1.0, dict(plugin={name!r}))')}]")

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        found = await gathering.gather(10.0)
        assert {sample.labels["plugin"] for sample in by_name(found)["shared"].samples} == {"one", "other"}

    gathered(kit, body)


def test_a_family_may_come_in_as_many_parts_as_it_has_samples(kit: Kit) -> None:
    part = "MetricFamily('pieces', 'gauge', 'h', [Sample(float(n), {'n': str(n)})])"
    install(kit, "first", f"[{part} for n in range(20_000)]")
    install(kit, "second", f"[{part} for n in range(20_000, 20_100)]")

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        began = time.thread_time()
        samples = by_name(await gathering.gather(30.0))["pieces"].samples
        assert time.thread_time() - began < 5.0, "each part was held against all others"
        assert sorted(int(sample.labels["n"]) for sample in samples) == list(range(20_100))

    gathered(kit, body)


def test_a_thread_of_a_plugin_asks_through_its_context(kit: Kit) -> None:
    """As the core hands it out: it blocks that thread alone, and says so once the core is gone."""
    install(kit, "meter", f"[{family('meter_metric')}]")

    async def body(gathering: Gathering, _host: PluginHost) -> None:
        found = await asyncio.to_thread(gathering.from_thread, 10.0)
        assert value(found, "meter_metric") == 1.0
        gatherings.append(gathering)

    gatherings: list[Gathering] = []
    gathered(kit, body)
    with pytest.raises(TemporaryError, match="stopped"):
        gatherings[0].from_thread(1.0)
