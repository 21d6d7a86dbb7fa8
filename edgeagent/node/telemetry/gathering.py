"""Gathering: all metrics there are, asked of every collector in its plugin's lane, within a deadline.

A collector that fails, is late or answers with what no page of metrics can hold is left out, and counted.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from typing import Any, Protocol

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.metrics import MetricFamily, Sample
from edgeagent.api.usage import NodeUsage
from edgeagent.node.telemetry.families import counter, gauge

log = logging.getLogger(__name__)

GRACE_SECONDS = 1.0
"""What a caller waits longer than the collectors have: for the loop to get round to it."""
MAX_SAMPLES = 20_000
"""A collector's answer may have so many."""
MAX_LABEL_VALUE = 4_096
MAX_NAMES = 10_000
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES = {
    "histogram": frozenset({"_bucket", "_sum", "_count"}),
    "summary": frozenset({"", "_sum", "_count"}),
}
_NUMBERS = frozenset({float, int})
_PLAIN = frozenset({""})


class Collector(Protocol):
    """``edgeagent.api.metrics.Collectors`` as the core calls it. ``plugin``: whose it is."""

    @property
    def plugin(self) -> str:
        """The plugin's name."""

    async def collect(self, usage: NodeUsage) -> list[MetricFamily]:
        """The metrics as they are now."""


_Answer = asyncio.Task[tuple[list[MetricFamily], float]]


class Gathering:
    """Gathers when asked; between questions nothing runs. ``own``: the core's metrics. Made on the loop."""

    def __init__(
        self,
        collectors: Sequence[Collector],
        *,
        own: Callable[[], list[MetricFamily]],
        read_usage: Callable[[], Awaitable[NodeUsage]],
        clock: Clock,
    ) -> None:
        self._collectors = collectors
        self._own = own
        self._read_usage = read_usage
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[str, _Answer] = {}
        self._shared: asyncio.Task[list[MetricFamily]] | None = None
        self._problems: dict[str, str] = {}
        self._names = _Names()
        self.failures: Counter[str] = Counter()

    def from_thread(self, seconds: float) -> list[MetricFamily]:
        """``gather`` for a thread that is not the loop's, as ``edgeagent.api.metrics.Gather``."""
        work = self.gather(seconds)
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise TemporaryError("the agent has stopped", reason="Stopping") from error
        try:
            return future.result(max(0.0, seconds) + GRACE_SECONDS)
        except (CancelledError, TimeoutError) as error:
            future.cancel()
            raise TemporaryError("the agent is stopping, or too busy", reason="Stopping") from error

    async def gather(self, seconds: float) -> list[MetricFamily]:
        """All families that are there within ``seconds``. Whoever asks meanwhile gets the same."""
        if self._shared is None:
            self._shared = self._loop.create_task(self._gather(seconds), name="gather")
            self._shared.add_done_callback(self._gathered)
        return list(await asyncio.shield(self._shared))

    def _gathered(self, task: "asyncio.Task[list[MetricFamily]]") -> None:
        self._shared = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; there may be nobody

    async def _gather(self, seconds: float) -> list[MetricFamily]:
        began = self._clock.monotonic()
        usage = await self._read_usage()
        asked: dict[str, _Answer] = {}
        for collector in self._collectors:
            if (name := collector.plugin) not in self._under_way:
                asked[name] = self._loop.create_task(self._ask(collector, usage), name=f"collect-{name}")
        self._under_way.update(asked)
        if asked:
            left = seconds - (self._clock.monotonic() - began)
            await asyncio.wait(asked.values(), timeout=max(0.0, left))
        page = _Page(self._names)
        page.add(self._own())
        took = {}
        for collector in self._collectors:
            name = collector.plugin
            if (answer := self._answer(name, asked.get(name), seconds, page)) is not None:
                took[name] = answer
        page.add(self._about(took))
        return page.families()

    async def _ask(self, collector: Collector, usage: NodeUsage) -> tuple[list[MetricFamily], float]:
        began = self._clock.monotonic()
        try:
            families = await collector.collect(usage)
        finally:
            del self._under_way[collector.plugin]
        return families, self._clock.monotonic() - began

    def _answer(self, name: str, task: _Answer | None, seconds: float, page: "_Page") -> float | None:
        """Put a collector's answer on the page; how long it took, None where it is left out."""
        try:
            if task is None:
                raise TemporaryError("it has not come back since it was asked before")
            if not task.done():
                task.add_done_callback(_forget)
                raise TemporaryError(f"it did not answer within {seconds:g} s")
            families, took = task.result()
            page.add(families)
        except EdgeAgentError as error:
            self.failures[name] += 1
            if self._problems.get(name) != str(error):
                log.warning("metrics of plugin %s are left out: %s", name, error)
            self._problems[name] = str(error)
            return None
        self._problems.pop(name, None)
        return took

    def _about(self, took: dict[str, float]) -> list[MetricFamily]:
        """How the collectors themselves did."""
        names = [{"plugin": one.plugin} for one in self._collectors]
        return [
            gauge(
                "edgeagent_collector_success",
                "Whether the plugin's metrics are on this page.",
                [Sample(float(one["plugin"] not in self._problems), one) for one in names],
            ),
            gauge(
                "edgeagent_collector_duration_seconds",
                "How long the plugin's collector took, the time it waited for its lane included.",
                [Sample(took[one["plugin"]], one) for one in names if one["plugin"] in took],
            ),
            counter(
                "edgeagent_collector_failures_total",
                "How often the plugin's metrics were left out: it failed, was late, or told of no metrics.",
                [Sample(self.failures[one["plugin"]], one) for one in names],
            ),
        ]

    async def stop(self) -> None:
        """Nobody is answered any more."""
        tasks: list[asyncio.Task[Any]] = [*self._under_way.values()]
        if self._shared is not None:
            tasks.append(self._shared)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _forget(task: _Answer) -> None:
    if not task.cancelled():
        task.exception()


class _Names:
    """Names that were found to be fit: the same come again and again."""

    def __init__(self) -> None:
        self._fit: dict[re.Pattern[str], set[str]] = {_NAME: set(), _LABEL: set()}

    def are_fit(self, pattern: re.Pattern[str], names: Iterable[str]) -> str | None:
        """None if all names are of the pattern, else one that is not, as it can be shown."""
        fit = self._fit[pattern]
        for name in names:
            if name not in fit:
                if not _is_text(name, 200) or not pattern.fullmatch(name):
                    return repr(str(name)[:100])
                if len(fit) >= MAX_NAMES:
                    fit.clear()
                fit.add(name)
        return None


class _Page:
    """Families by name, each once; what one collector has is added whole or not at all."""

    def __init__(self, names: _Names) -> None:
        self._names = names
        self._families: dict[str, MetricFamily] = {}
        self._known_labels: dict[int, dict[str, str]] = {}

    def families(self) -> list[MetricFamily]:
        """In the order in which they came."""
        return list(self._families.values())

    def add(self, families: Iterable[MetricFamily]) -> None:
        """PermanentError for what no page can hold; nothing is added then."""
        merged: dict[str, MetricFamily] = {}
        count = 0
        for family in families:
            self._check(family)
            count += len(family.samples)
            if count > MAX_SAMPLES:
                raise PermanentError(f"it has more than {MAX_SAMPLES} samples")
            before = merged.get(family.name) or self._families.get(family.name)
            merged[family.name] = family if before is None else _joined(before, family)
        self._families.update((name, family) for name, family in merged.items() if family.samples)

    def _check(self, family: MetricFamily) -> None:
        name = family.name
        if (unfit := self._names.are_fit(_NAME, (name,))) is not None:
            raise PermanentError(f"{unfit} is no name of a metric")
        suffixes = _SUFFIXES.get(family.type, _PLAIN)
        known = self._known_labels
        for sample in family.samples:
            if sample.suffix not in suffixes:
                raise PermanentError(f"{name}: a {family.type} has no samples {name}{sample.suffix[:50]}")
            if type(sample.value) not in _NUMBERS:
                raise PermanentError(f"{name}: a value is no number")
            labels = sample.labels
            if labels and id(labels) not in known:
                if (unfit := self._names.are_fit(_LABEL, labels)) is not None:
                    raise PermanentError(f"{name}: {unfit} is no name of a label")
                for key, value in labels.items():
                    if type(value) is not str or len(value) > MAX_LABEL_VALUE:
                        problem = f"is no text of at most {MAX_LABEL_VALUE} characters"
                        raise PermanentError(f"{name}: the value of label {key} {problem}")
                known[id(labels)] = labels  # kept, so that its id stays its own


def _joined(one: MetricFamily, other: MetricFamily) -> MetricFamily:
    """A family that two collectors have, or one of them in two parts."""
    if (one.type, one.help) != (other.type, other.help):
        raise PermanentError(f"{one.name} is on the page already, with another type or another help")
    seen = {(sample.suffix, *sorted(sample.labels.items())) for sample in one.samples}
    for sample in other.samples:
        if (sample.suffix, *sorted(sample.labels.items())) in seen:
            raise PermanentError(f"{one.name} is on the page already, with the labels {sample.labels}")
    return MetricFamily(one.name, one.type, one.help, [*one.samples, *other.samples])


def _is_text(value: object, longest: int) -> bool:
    """What a plugin answers with is looked into no further than its structs' classes before."""
    return isinstance(value, str) and len(value) <= longest
