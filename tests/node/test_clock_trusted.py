"""What time a node believes it is: boots in 1970 and ten years ahead, clocks that are set, hubs that err."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.status import Conditions
from edgeagent.node.store.database import Database
from edgeagent.node.trustedtime import CLOSE_SECONDS, RELEASED, TrustedTime, in_words, tell_clock
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.envelope import decode_envelope, encode_envelope, sign_envelope
from edgeagent.wire.keys import SigningKey
from edgeagent.wire.signedtime import LATEST, TIME_TYPE, SignedTime
from tests.node.clockkit import ClockNode, running
from tests.node.renewalkit import DAY, YEAR, HubSide, in_loop

NOW = 1_800_000_000.0


@pytest.fixture
def hub(tmp_path: Path) -> HubSide:
    return HubSide(tmp_path / "hub", ManualClock(NOW))


def make(hub: HubSide, tmp_path: Path, ahead: float) -> ClockNode:
    """A node whose clock is ahead of the hub's."""
    (tmp_path / "node").mkdir()
    return ClockNode(hub, tmp_path / "node", ahead)


@pytest.mark.parametrize(
    ("ahead", "reason", "words"),
    [
        (-NOW + 60, "ClockBehind", "about 57 years behind"),
        (10 * YEAR, "ClockAhead", "about 10 years ahead"),
        (-3_600.0 * 5, "ClockBehind", "about 5 hours behind"),
        (40.0, "ClockAhead", "about 40 seconds ahead"),
    ],
)
def test_a_wrong_clock_is_told_of_and_not_gone_by(
    hub: HubSide, tmp_path: Path, ahead: float, reason: str, words: str
) -> None:
    @in_loop
    async def scenario() -> None:
        async with running(make(hub, tmp_path, ahead)) as node:
            node.connect()
            await node.clock.settle()
            assert abs(node.error) < 1
            condition = node.time.condition
            assert condition is not None
            assert condition[:2] == (False, reason)
            assert words in condition[2]
            assert "timedatectl" in condition[2]
            assert node.time.floor() == pytest.approx(NOW, abs=1)
            # Set right: nothing to tell of, and nobody is asked for it.
            node.wrong.ahead = 0.0
            assert node.time.condition == (True, "InSync", "")
            assert node.questions == 1
            # Set wrong again: told of, and gone by as little.
            node.wrong.ahead = ahead
            assert node.time.condition == condition
            assert abs(node.error) < 1

    scenario()


def test_before_the_hub_was_heard(hub: HubSide, tmp_path: Path) -> None:
    """The clock counts, but for a time that cannot be."""
    node = make(hub, tmp_path, 0.0)
    assert node.error == 0
    found = []
    for ahead in (0.0, 10 * YEAR, -NOW):
        node.wrong.ahead = ahead
        found.append(node.time.condition)
        assert node.time.floor() == RELEASED
        assert node.time.now() == max(RELEASED, node.wrong.now())
    assert found[:2] == [None, None], "nobody can tell yet"
    assert found[2] is not None
    assert found[2][:2] == (False, "ClockBehind")
    assert "or more behind" in found[2][2]


@in_loop
async def _floor_over_boots(hub: HubSide, tmp_path: Path) -> None:
    node = make(hub, tmp_path, 0.0)
    node.time.at_least(NOW - 100)
    node.make()  # the agent starts again, in 1970
    node.wrong.ahead = -NOW
    assert node.time.now() == NOW - 100
    await node.clock.advance(50)
    assert node.time.now() == NOW - 50
    # What a signed index says counts from then on.
    node.time.at_least(NOW + 1_000)
    assert node.time.floor() == NOW + 1_000
    node.time.at_least(NOW - 5_000)
    assert node.time.floor() == NOW + 1_000


def test_what_was_known_is_known_after_a_boot(hub: HubSide, tmp_path: Path) -> None:
    _floor_over_boots(hub, tmp_path)


@in_loop
async def _few_writes(hub: HubSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make(hub, tmp_path, 0.0)
    written: list[str] = []
    real = Database.durable

    def durable(database: Database) -> object:
        written.append("written")
        return real(database)

    monkeypatch.setattr(Database, "durable", durable)
    for _ in range(10 * 60):
        node.time.at_least(node.clock.now())
        await node.clock.advance(60)
    assert 9 <= len(written) <= 10
    written.clear()
    node.time.close()
    node.make()
    node.time.close()
    assert len(written) <= 1


def test_the_floor_is_written_once_an_hour_at_most(
    hub: HubSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _few_writes(hub, tmp_path, monkeypatch)


def test_a_disk_that_takes_nothing_changes_nothing(
    hub: HubSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(hub, tmp_path, -NOW)

    def full(*_: object) -> None:
        raise TemporaryError("the disk is full", reason="DiskFull")

    monkeypatch.setattr("edgeagent.node.trustedtime.set_meta", full)
    node.time.told(NOW)
    assert node.error == 0
    node.time.close()


@pytest.mark.parametrize("kept", ["", "x", "-1", "1e9", "٣", "9" * 40])
def test_a_floor_that_cannot_be_read_is_none(tmp_path: Path, kept: str) -> None:
    database = Database(tmp_path / "agent.db", now=0)
    with database.durable() as connection:
        connection.execute("INSERT INTO meta VALUES ('time_floor', ?)", (kept,))
    assert TrustedTime(database, ManualClock(0.0)).now() == RELEASED


@in_loop
async def _hub_errs(hub: HubSide, tmp_path: Path) -> None:
    node = make(hub, tmp_path, 0.0)
    async with running(node):
        # The hub's clock is ten years ahead for a while, and an index is signed then.
        node.time.at_least(NOW + 10 * YEAR)
        assert node.time.floor() == NOW + 10 * YEAR
        node.make()
        assert node.time.floor() == NOW + 10 * YEAR
    async with running(node):
        node.connect()
        await node.clock.settle()
        assert node.error == 0
        assert node.time.floor() == NOW
        node.make()
        assert node.time.floor() == NOW, "the fall is kept at once"
    # A hub that has no date itself is not believed.
    node.time.told(1_000.0)
    assert node.error == 0


def test_a_hub_that_was_ahead_for_a_while_is_followed_back(hub: HubSide, tmp_path: Path) -> None:
    _hub_errs(hub, tmp_path)


@in_loop
async def _one_question(hub: HubSide, tmp_path: Path) -> None:
    async with running(make(hub, tmp_path, 0.0)) as node:
        for _ in range(100):  # a bad line
            node.connect()
            await node.clock.advance(10)
        assert node.questions == 1
        await node.clock.advance(3_600)
        assert node.questions == 1, "nobody asks while a connection lasts"
        node.connect()
        await node.clock.settle()
        assert node.questions == 2
        # The clock was set, or the machine slept: the count of seconds may have missed something.
        node.wrong.ahead = 3_600.0
        node.connect()
        await node.clock.settle()
        assert node.questions == 3
        # A request of the hub's that seems to have expired makes one wonder, but not more than now and then.
        await node.clock.advance(600)
        for _ in range(10):
            node.hub_time.doubt()
            await node.clock.settle()
        assert node.questions == 4


def test_one_question_a_connection_at_most(hub: HubSide, tmp_path: Path) -> None:
    _one_question(hub, tmp_path)


@in_loop
async def _no_hub(hub: HubSide, tmp_path: Path) -> None:
    async with running(make(hub, tmp_path, -NOW)) as node:
        node.connect()
        node.connected = False  # the answer does not come
        await node.clock.advance(60)
        assert node.time.now() == pytest.approx(RELEASED, abs=61)
        await node.clock.advance(DAY)
        assert node.questions == 1
        node.connected = True
        node.hub_time.switched()  # the hub is there
        await node.clock.settle()
        assert node.error == 0
        node.hub_time.switched()
        await node.clock.settle()
        assert node.questions == 2


def test_a_hub_that_was_away_is_asked_once_it_is_heard_of(hub: HubSide, tmp_path: Path) -> None:
    _no_hub(hub, tmp_path)


@in_loop
async def _slow(hub: HubSide, tmp_path: Path, ahead: float) -> None:
    async with running(make(hub, tmp_path, ahead)) as node:
        node.takes = 20.0
        node.connect()
        await node.clock.advance(25)
        assert abs(node.error) <= 10 + CLOSE_SECONDS
        assert node.questions == 1


@pytest.mark.parametrize("ahead", [-NOW, 0.0, 12.0, 10 * YEAR])
def test_a_slow_answer_is_as_good_as_it_can_be(hub: HubSide, tmp_path: Path, ahead: float) -> None:
    _slow(hub, tmp_path, ahead)


def forged(answer: bytes, **changes: object) -> bytes:
    """Another time in it, signed by somebody else."""
    claimed = msgspec.json.decode(decode_envelope(answer, TIME_TYPE).payload, type=SignedTime)
    payload = msgspec.json.encode(msgspec.structs.replace(claimed, **changes))
    key = SigningKey(bytes(32))
    return encode_envelope(sign_envelope(TIME_TYPE, payload, key.public.id, key))


@in_loop
async def _forged(hub: HubSide, tmp_path: Path) -> None:
    async with running(make(hub, tmp_path, 0.0)) as node:
        old: list[bytes] = []

        def keep(answer: bytes) -> bytes:
            old.append(answer)
            return answer

        node.forge = keep
        node.connect()
        await node.clock.settle()
        for number, lie in enumerate(
            [
                lambda answer: forged(answer, time=NOW + 10 * YEAR),
                lambda answer: forged(answer, time=NOW - 10 * YEAR),
                lambda answer: forged(answer, time=-1.0),
                lambda answer: forged(answer, time=LATEST),
                lambda _: old[0],
                lambda _: b"",
                lambda answer: answer[:-1],
                lambda answer: answer * 1_000,
            ],
            start=1,
        ):
            node.forge = lie
            await node.clock.advance(3_700)
            node.connect()
            await node.clock.settle()
            assert node.questions == number + 1
            assert node.error == 0
            assert node.time.condition == (True, "InSync", "")
            assert node.time.floor() < node.clock.now()


def test_nobody_but_the_hub_says_what_time_it_is(hub: HubSide, tmp_path: Path) -> None:
    _forged(hub, tmp_path)


@in_loop
async def _agreeing(hub: HubSide, tmp_path: Path) -> None:
    """What a stranger may do is to agree: the clock counts as it would have, and the floor does not move."""
    async with running(make(hub, tmp_path, 10 * YEAR)) as node:
        node.forge = lambda answer: forged(answer, time=node.wrong.now())
        node.connect()
        await node.clock.settle()
        assert node.error == 10 * YEAR
        assert node.time.floor() == RELEASED
        node.forge = lambda answer: answer
        await node.clock.advance(3_700)
        node.connect()
        await node.clock.settle()
        assert node.error == 0


@in_loop
async def _sure(hub: HubSide, tmp_path: Path) -> None:
    async with running(make(hub, tmp_path, -30 * DAY)) as node:
        node.time.at_least(NOW - 30 * DAY)
        node.forge = lambda answer: forged(answer, time=node.wrong.now())
        node.connect()
        await node.clock.settle()
        assert node.error == -30 * DAY
        with pytest.raises(PermanentError):
            await node.hub_time.make_sure()
        node.connected = False
        with pytest.raises(TemporaryError):
            await node.hub_time.make_sure()
        assert node.error == -30 * DAY
        node.connected, node.forge = True, lambda answer: answer
        await asyncio.gather(*(node.hub_time.make_sure() for _ in range(3)))
        assert (node.error, node.questions) == (0, 4)
        await node.clock.advance(40 * DAY)
        await node.hub_time.make_sure()
        assert node.questions == 4
        node.wrong.ahead += 60  # set, or the machine slept
        await node.hub_time.make_sure()
        assert node.questions == 5


def test_who_agrees_with_a_clock_that_is_behind_makes_nobody_sure_of_it(hub: HubSide, tmp_path: Path) -> None:
    _sure(hub, tmp_path)


def test_whoever_agrees_with_a_wrong_clock_changes_nothing(hub: HubSide, tmp_path: Path) -> None:
    _agreeing(hub, tmp_path)


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.integers(-60 * 365, 60 * 365)),
            st.tuples(st.just("pass"), st.integers(0, 86_400)),
            st.tuples(st.just("told"), st.just(0)),
            st.tuples(st.just("index"), st.integers(-86_400, 0)),
            st.tuples(st.just("boot"), st.integers(-60 * 365, 60 * 365)),
        ),
        max_size=30,
    )
)
def test_for_all_that_happens_to_a_clock(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """The floor never passes the true time; once told, what is believed is the truth until the next boot."""

    async def scenario() -> None:
        true = ManualClock(NOW)
        wall = ManualClock(NOW)
        database = Database(tmp_path_factory.mktemp("store") / "agent.db", now=0)
        time, told, before = TrustedTime(database, wall), False, 0.0
        for what, by in steps:
            if what == "set":
                wall.set_wall_clock(by * DAY)
            elif what == "pass":
                await true.advance(by)
                await wall.advance(by)
            elif what == "told":
                time.told(true.now())
                told = True
            elif what == "index":
                time.at_least(true.now() + by)
            else:
                time.close()
                before = time.floor()
                wall.set_wall_clock(by * DAY)
                time, told = TrustedTime(database, wall), False
                assert time.floor() >= before - 3_600
            assert time.floor() <= true.now() + 1e-3
            assert time.now() >= time.floor() - 1e-3
            if told:
                assert time.now() == pytest.approx(true.now(), abs=1e-3)
        database.close()

    asyncio.run(scenario())


def test_what_is_said_is_said_roughly() -> None:
    assert [in_words(one) for one in (0, 12, 100, 150, 7_300, 200_000, 4e8)] == [
        "about 0 seconds", "about 10 seconds", "about 100 seconds", "about 2 minutes", "about 2 hours",
        "about 2 days", "about 13 years",
    ]  # fmt: skip


def test_the_condition(hub: HubSide, tmp_path: Path) -> None:
    node = make(hub, tmp_path, 0.0)
    conditions = Conditions()
    tell_clock(conditions, node.time, node.time.now())
    assert conditions.all() == []
    node.time.told(NOW + YEAR)
    tell_clock(conditions, node.time, node.time.now())
    [condition] = conditions.all()
    assert (condition.type, condition.status, condition.reason) == ("ClockInSync", "False", "ClockBehind")
    assert condition.last_transition_time == "2028-01-15T08:00:00Z"
