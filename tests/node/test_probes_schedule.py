"""When probes are made and what their results in a row mean, on a clock that stands still.

https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.probe import ExecAction, Probe
from edgeagent.api.runtime import ExecResult
from edgeagent.node.pods.probes import ContainerProbes, Outcome, ProbeFailure, ProbeTarget
from edgeagent.testing.clock import ManualClock

GOOD, BAD, UNKNOWN = True, False, None
Result = bool | None
KINDS = ("Startup", "Liveness", "Readiness")


@dataclass
class World:
    """One container whose probes are commands, named by their kind, that answer as ``results`` say."""

    results: dict[str, Iterator[Result]]
    probes: dict[str, Probe]
    age: float = 0
    resumed: bool = False
    initially_started: bool = False
    initially_ready: bool = False
    limit: int = 8
    takes: float = 0
    seed: int = 7
    on_failure: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None
    clock: ManualClock = field(default_factory=ManualClock)
    attempts: list[tuple[float, str, Result]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    changes: list[tuple[bool, bool, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        container = Container(
            name="c",
            image="i",
            startup_probe=self.probes.get("Startup"),
            liveness_probe=self.probes.get("Liveness"),
            readiness_probe=self.probes.get("Readiness"),
        )
        self.subject = ContainerProbes(
            container,
            lambda: ProbeTarget(container, "", self.execute),
            clock=self.clock,
            rng=random.Random(self.seed),
            started_at=self.clock.now() - self.age,
            on_change=self.changed,
            on_remark=self.attempt_failed,
            limit=asyncio.Semaphore(self.limit),
            resumed=self.resumed,
            initially_started=self.initially_started,
            initially_ready=self.initially_ready,
        )

    def changed(self) -> None:
        """Note what changed, for later."""
        self.changes.append(self.state())
        self.on_change()

    def attempt_failed(self, kind: str, outcome: Outcome) -> None:
        """Note it likewise."""
        assert not outcome.success
        self.failures.append((kind, outcome.message))
        self.on_failure()

    def state(self) -> tuple[bool, bool, str]:
        """started, ready, and what failed."""
        return (
            self.subject.started,
            self.subject.ready,
            self.subject.failed.kind if self.subject.failed else "",
        )

    async def execute(self, command: list[str], timeout: float) -> ExecResult:
        """A probe's command."""
        result = next(self.results[command[0]])
        self.attempts.append((self.clock.monotonic(), command[0], result))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.takes:
                await self.clock.sleep(self.takes)
        finally:
            self.at_once -= 1
        if result is UNKNOWN:
            raise TemporaryError("the runtime is away")
        return ExecResult(exit_code=0 if result else 3, output=b"sorry\n")

    def times(self, kind: str) -> list[float]:
        """When attempts were made."""
        return [at for at, made, _ in self.attempts if made == kind]


def probe(kind: str, **settings: int) -> Probe:
    return Probe(exec=ExecAction(command=[kind]), **settings)  # type: ignore[arg-type]


def world(
    results: dict[str, Sequence[Result] | Result], probes: dict[str, Probe] | None = None, **settings: object
) -> World:
    """``results``: one for all attempts, or a sequence that the last one of goes on."""

    def forever(given: Sequence[Result] | Result) -> Iterator[Result]:
        if isinstance(given, Sequence):
            yield from given
            yield from repeat(given[-1])
        yield from repeat(given)

    probes = probes or {kind: probe(kind) for kind in results}
    return World({k: forever(v) for k, v in results.items()}, probes, **settings)  # type: ignore[arg-type]


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Play it, and see that no task is left."""

    async def played() -> None:
        await scene()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(played())


def test_a_container_without_probes_is_started_and_ready() -> None:
    async def scene() -> None:
        subject = world({}).subject
        subject.start()
        assert (subject.started, subject.ready, subject.failed) == (True, True, None)

    run(scene)


def test_probes_begin_after_the_initial_delay_and_come_every_period() -> None:
    async def scene() -> None:
        probes = {
            "Liveness": probe("Liveness", initial_delay_seconds=5, period_seconds=10),
            "Readiness": probe("Readiness", period_seconds=3),
        }
        it = world({"Liveness": GOOD, "Readiness": GOOD}, probes)
        it.subject.start()
        await it.clock.advance(30)
        assert it.times("Liveness") == [5, 15, 25]
        assert it.times("Readiness") == list(range(0, 31, 3))
        it.subject.close()

    run(scene)


@pytest.mark.parametrize(("age", "first"), [(0, 8), (3, 5), (8, 0), (100, 0), (-1000, 8)])
def test_the_initial_delay_counts_from_the_containers_start(age: float, first: float) -> None:
    """A wall clock that was put back makes it no longer."""

    async def scene() -> None:
        probes = {"Liveness": probe("Liveness", initial_delay_seconds=8)}
        it = world({"Liveness": GOOD}, probes, age=age)
        it.subject.start()
        await it.clock.advance(9)
        assert it.times("Liveness") == [first]
        it.subject.close()

    run(scene)


def test_others_wait_for_the_startup_probe_and_begin_right_after_it() -> None:
    async def scene() -> None:
        it = world({"Startup": [BAD, BAD, GOOD], "Liveness": GOOD, "Readiness": GOOD})
        it.subject.start()
        await it.clock.advance(19)
        assert it.state() == (False, False, "")
        assert it.times("Liveness") == it.times("Readiness") == []
        await it.clock.advance(1)
        assert it.times("Liveness") == it.times("Readiness") == [20]
        assert it.changes == [(True, False, ""), (True, True, "")]
        await it.clock.advance(100)
        assert it.times("Startup") == [0, 10, 20]
        it.subject.close()

    run(scene)


def test_a_startup_probe_without_a_readiness_probe_makes_ready() -> None:
    async def scene() -> None:
        it = world({"Startup": [BAD, GOOD]})
        it.subject.start()
        await it.clock.advance(10)
        assert it.changes == [(True, True, "")]

    run(scene)


@pytest.mark.parametrize("kind", ["Startup", "Liveness"])
def test_the_failure_threshold_ends_a_run_once(kind: str) -> None:
    async def scene() -> None:
        settings = {"failure_threshold": 2, "termination_grace_period_seconds": 7}
        it = world({kind: BAD}, {kind: probe(kind, **settings)})
        it.subject.start()
        await it.clock.advance(5)
        assert it.state()[2] == ""
        await it.clock.advance(100)
        assert it.subject.failed == ProbeFailure(kind, "exit status 3: sorry", 7)  # type: ignore[arg-type]
        assert it.times(kind) == [0, 10]
        assert it.failures == [(kind, "exit status 3: sorry")] * 2
        assert len(it.changes) == 1

    run(scene)


def test_readiness_comes_and_goes_by_its_thresholds() -> None:
    async def scene() -> None:
        settings = {"period_seconds": 1, "success_threshold": 2, "failure_threshold": 3}
        results = [GOOD, BAD, GOOD, GOOD, BAD, BAD, GOOD, BAD, BAD, BAD, GOOD, GOOD]
        it = world({"Readiness": results}, {"Readiness": probe("Readiness", **settings)})
        it.subject.start()
        ready = []
        for _ in results:
            await it.clock.advance(0)
            ready.append(it.subject.ready)
            await it.clock.advance(1)
        assert [int(now) for now in ready] == [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1]
        assert it.subject.failed is None
        it.subject.close()

    run(scene)


def test_a_runtime_that_is_away_says_nothing_about_the_container() -> None:
    async def scene() -> None:
        results = [BAD, UNKNOWN, BAD, *[UNKNOWN] * 20, GOOD]
        it = world({"Liveness": results, "Readiness": UNKNOWN}, initially_ready=True)
        it.subject.start()
        await it.clock.advance(300)
        assert it.state() == (True, True, "")
        assert it.failures == [("Liveness", "exit status 3: sorry")] * 2
        assert it.changes == []
        it.subject.close()

    run(scene)


def test_a_bug_in_an_action_does_not_end_the_probing(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        it = world({"Liveness": GOOD})

        def broken() -> Iterator[Result]:
            yield GOOD
            raise ZeroDivisionError

        it.results["Liveness"] = broken()
        it.subject.start()
        await it.clock.advance(10)
        it.results["Liveness"] = repeat(GOOD)
        await it.clock.advance(10)
        assert it.times("Liveness") == [0, 20]
        assert it.state() == (True, True, "")
        it.subject.close()

    run(scene)
    assert "Liveness probe of container c" in caplog.text


def test_after_a_restart_of_the_agent_probes_go_on_where_they_were() -> None:
    async def scene() -> None:
        results: dict[str, Sequence[Result] | Result] = {"Startup": BAD, "Liveness": GOOD, "Readiness": BAD}
        it = world(results, age=500, resumed=True, initially_started=True, initially_ready=True)
        assert it.state() == (True, True, "")
        it.subject.start()
        await it.clock.advance(10)
        assert it.times("Startup") == []
        assert len(it.times("Readiness")) == 1
        assert it.state() == (True, True, "")  # one failure is below the threshold
        await it.clock.advance(20)
        assert it.state() == (True, False, "")
        it.subject.close()

    run(scene)


def test_what_was_ready_before_is_not_while_it_has_still_to_start() -> None:
    async def scene() -> None:
        it = world({"Startup": BAD, "Readiness": GOOD}, initially_ready=True)
        assert it.state() == (False, False, "")

    run(scene)


def test_the_first_probes_after_a_restart_are_spread_over_their_period() -> None:
    async def scene() -> None:
        probes = {"Readiness": probe("Readiness", period_seconds=60)}
        firsts = []
        for seed in range(30):
            one = World({"Readiness": repeat(GOOD)}, probes, age=500, resumed=True, seed=seed)
            one.subject.start()
            await one.clock.advance(60)
            firsts.append(one.times("Readiness")[0])
            one.subject.close()
        assert min(firsts) < 15
        assert max(firsts) > 45
        assert all(0 <= first <= 60 for first in firsts)

    run(scene)


def test_a_probe_that_takes_longer_than_its_period_is_made_again_at_once_and_never_twice_at_a_time() -> None:
    async def scene() -> None:
        it = world({"Liveness": GOOD}, {"Liveness": probe("Liveness", period_seconds=2)}, takes=5)
        it.subject.start()
        await it.clock.advance(16)
        assert it.times("Liveness") == [0, 5, 10, 15]
        assert it.most_at_once == 1
        it.subject.close()

    run(scene)


def test_no_more_commands_run_at_once_than_the_limit() -> None:
    async def scene() -> None:
        it = world({"Liveness": GOOD, "Readiness": GOOD}, limit=1, takes=1)
        it.subject.start()
        await it.clock.advance(20)
        assert it.most_at_once == 1
        assert it.times("Liveness") == [0, 10, 20]
        assert it.times("Readiness") == [1, 11]
        it.subject.close()

    run(scene)


def test_closing_ends_what_is_under_way_and_calls_nobody_back() -> None:
    async def scene() -> None:
        it = world({"Liveness": BAD, "Readiness": BAD}, takes=3)
        it.subject.start()
        await it.clock.advance(1)
        assert it.at_once == 2
        it.subject.close()
        it.subject.close()
        await it.clock.advance(100)
        assert it.at_once == 0
        assert not it.changes
        assert not it.failures

    run(scene)


@pytest.mark.parametrize(("kind", "result"), [("Liveness", BAD), ("Readiness", GOOD), ("Startup", GOOD)])
def test_a_callback_may_close(kind: str, result: bool) -> None:
    async def scene() -> None:
        it = world({kind: result})
        it.on_failure = it.on_change = it.subject.close
        it.subject.start()
        await it.clock.advance(100)
        assert len(it.attempts) == 1

    run(scene)


@dataclass
class Model:
    """The documentation's words, applied to all results so far, by kind."""

    probes: dict[str, Probe]
    started: bool
    was_ready: bool

    def reached(self, kind: str, results: list[bool]) -> list[bool]:
        """Each time that so many results in a row were the same: what they were."""
        found = []
        for end in range(1, len(results) + 1):
            for result, count in (
                (True, self.probes[kind].success_threshold),
                (False, self.probes[kind].failure_threshold),
            ):
                row = results[max(0, end - count) : end]
                if len(row) == count and set(row) == {result}:
                    found.append(result)
        return found

    def state(self, log: list[tuple[str, Result]]) -> tuple[bool, bool, str]:
        """started, ready, and what failed, after these attempts."""
        known = {kind: [r for k, r in log if k == kind and r is not None] for kind in KINDS}
        reached = {kind: self.reached(kind, known[kind]) for kind in self.probes}
        started = self.started or "Startup" not in self.probes or True in reached["Startup"]
        verdicts = [self.was_ready and self.started, *reached.get("Readiness", [])]
        ready = started and (verdicts[-1] if "Readiness" in self.probes else True)
        failed = [kind for kind in ("Startup", "Liveness") if False in reached.get(kind, [])]
        return started, ready, failed[0] if failed else ""


@st.composite
def drawn_probe(draw: st.DrawFn, kind: str) -> Probe:
    return probe(
        kind,
        initial_delay_seconds=draw(st.integers(0, 4)),
        period_seconds=draw(st.integers(1, 4)),
        success_threshold=draw(st.integers(1, 3)) if kind == "Readiness" else 1,
        failure_threshold=draw(st.integers(1, 3)),
    )


outcomes = st.lists(st.sampled_from([GOOD, GOOD, BAD, BAD, UNKNOWN]), min_size=30, max_size=30)


@settings(deadline=None)
@given(
    st.fixed_dictionaries({}, optional={kind: st.tuples(drawn_probe(kind), outcomes) for kind in KINDS}),
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0, 0, 2]),
)  # fmt: skip
def test_for_all_results_the_state_is_what_the_documentation_says(
    drawn: dict[str, tuple[Probe, list[Result]]], resumed: bool, started: bool, ready: bool, takes: float
) -> None:
    async def scene() -> None:
        probes = {kind: chosen for kind, (chosen, _) in drawn.items()}
        model = Model(probes, started or "Startup" not in probes, ready)
        it = world(
            {kind: results for kind, (_, results) in drawn.items()},
            probes,
            resumed=resumed,
            initially_started=started,
            initially_ready=ready,
            takes=takes,
        )
        it.subject.start()
        states = [it.state()]
        for _ in range(24):
            log = [(kind, result) for at, kind, result in it.attempts if at + takes <= it.clock.monotonic()]
            assert it.state() == model.state(log)
            passed = [at + takes for at, kind, result in it.attempts if kind == "Startup" and result]
            for at, kind, _ in it.attempts:
                if kind == "Startup":
                    assert not model.started
                    assert not passed or at <= passed[0]
                else:
                    assert model.started or at >= passed[0]
            assert [kind for kind, _ in it.failures] == [kind for kind, result in log if result is BAD]
            await it.clock.advance(1)
            states += it.changes[len(states) - 1 :]
        assert all(one != next_ for one, next_ in pairwise(states))
        assert states[-1] == it.state()
        it.subject.close()

    run(scene)
