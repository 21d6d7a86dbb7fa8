"""Log rotation, and reading what was rotated as one log.

https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import TemporaryError
from edgeagent.node.pods.logs import read_log
from edgeagent.node.pressure.logs import LogRotator
from edgeagent.node.pressure.pods import RunningContainer, RunningPod
from edgeagent.node.pressure.schedule import LATEST_SECONDS, SOONEST_SECONDS


class Conmon:
    """Writes lines to a container's log as conmon does: through an open descriptor, whatever the name is."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "ctr.log"
        self.count = 0
        self.works = True
        self.reopened = 0
        self._file = self.path.open("ab", buffering=0)

    async def reopen(self, container_id: str) -> None:
        """Go on at the path, as the runtime does when it is asked."""
        assert container_id == "id"
        if not self.works:
            raise TemporaryError("Podman does not answer")
        self._file.close()
        self._file = self.path.open("ab", buffering=0)
        self.reopened += 1

    def write(self, lines: int) -> None:
        """Write numbered lines."""
        for _ in range(lines):
            self._file.write(b"2026-01-01T00:00:00Z stdout F %06d\n" % self.count)
            self.count += 1

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    @property
    def pods(self) -> list[RunningPod]:
        """The pod that it belongs to."""
        container = RunningContainer("web", "id", 1, log_path=str(self.path))
        silent = RunningContainer("silent", "other", 2)
        return [RunningPod(uid="u", namespace="n", name="p", containers=[container, silent])]

    def rotator(self, max_files: int = 3) -> LogRotator:
        """Make a rotator for files of ten lines."""
        return LogRotator(self.reopen, max_bytes=36 * 10, max_files=max_files)

    def files(self) -> list[str]:
        """List what is there."""
        return sorted(file.name for file in self.path.parent.iterdir())

    def read(self, tail: int | None = None) -> list[int]:
        """Read the numbers."""
        text = read_log(self.path, tail_lines=tail, timestamps=False, limit=1_000_000).text
        return [int(line) for line in text.splitlines()]


@pytest.fixture
def conmon(tmp_path: Path) -> Iterator[Conmon]:
    made = Conmon(tmp_path / "userdata")
    yield made
    made.close()


def test_a_log_is_rotated_at_its_size_and_so_many_files_are_kept(conmon: Conmon) -> None:
    async def scenario() -> None:
        rotator = conmon.rotator()
        conmon.write(9)
        await rotator.check(conmon.pods)
        assert conmon.files() == ["ctr.log"]
        for _ in range(4):
            conmon.write(10)
            assert await rotator.check(conmon.pods) == SOONEST_SECONDS
        assert conmon.files() == ["ctr.log", "ctr.log.1", "ctr.log.2"]

    asyncio.run(scenario())
    conmon.write(1)
    assert conmon.count == 50
    assert conmon.read() == list(range(29, 50))
    assert conmon.read(tail=15) == list(range(35, 50))


def test_the_time_of_the_next_check(conmon: Conmon) -> None:
    async def scenario() -> None:
        large = LogRotator(conmon.reopen, max_bytes=10 << 20, max_files=5)
        assert SOONEST_SECONDS < await large.check(conmon.pods) < LATEST_SECONDS
        assert await large.check([]) == LATEST_SECONDS

    asyncio.run(scenario())


def test_of_two_disks_only_logs_on_the_one_that_is_short_are_dropped(conmon: Conmon) -> None:
    async def scenario() -> None:
        conmon.write(12)
        rotator = conmon.rotator()
        await rotator.check(conmon.pods)
        conmon.write(1)
        assert "ctr.log.1" in conmon.files()
        device = os.stat(conmon.pods[0].containers[0].log_path).st_dev
        rotator.drop_rotated(conmon.pods, device + 1)
        assert "ctr.log.1" in conmon.files()
        rotator.drop_rotated(conmon.pods, device)
        assert conmon.files() == ["ctr.log"]

    asyncio.run(scenario())


def test_a_crash_between_renaming_and_reopening_is_made_good(conmon: Conmon) -> None:
    async def scenario() -> None:
        conmon.write(12)
        conmon.works = False
        rotator = conmon.rotator()
        await rotator.check(conmon.pods)
        assert conmon.files() == ["ctr.log.1"]
        conmon.write(3)
        assert conmon.read() == list(range(15)), "it is readable meanwhile"
        await rotator.check(conmon.pods)
        rotator.drop_rotated(conmon.pods)
        assert conmon.files() == ["ctr.log.1"], "it is still written to"
        conmon.works = True
        await conmon.rotator().check(conmon.pods)  # that of the agent's next life
        assert conmon.files() == ["ctr.log", "ctr.log.1"]
        conmon.write(2)
        assert conmon.read() == list(range(17))

    asyncio.run(scenario())


def test_a_gap_that_a_crash_left_is_filled_and_nothing_is_dropped(conmon: Conmon) -> None:
    async def scenario() -> None:
        rotator = conmon.rotator(max_files=4)
        for _ in range(3):
            conmon.write(10)
            await rotator.check(conmon.pods)
        conmon.path.with_name("ctr.log.2").rename(conmon.path.with_name("ctr.log.4"))
        conmon.path.with_name("ctr.log.3").rename(conmon.path.with_name("ctr.log.5"))
        conmon.path.with_name("ctr.log.1").rename(conmon.path.with_name("ctr.log.2"))
        conmon.write(10)
        await rotator.check(conmon.pods)
        assert conmon.files() == [f"ctr.log{end}" for end in ("", ".1", ".2", ".4", ".5")]
        assert conmon.read() == list(range(40))

    asyncio.run(scenario())


def test_a_container_that_is_gone_and_a_folder_that_cannot_be_written(
    conmon: Conmon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        gone = RunningContainer("web", "id", 1, log_path=str(tmp_path / "gone/ctr.log"))
        pods = [RunningPod(uid="u", namespace="n", name="p", containers=[gone])]
        rotator = conmon.rotator()
        await rotator.check(pods)
        rotator.drop_rotated(pods)
        assert conmon.reopened == 0
        conmon.path.with_name("ctr.log.1").touch()
        conmon.path.with_name("ctr.log.2").mkdir()
        conmon.write(10)
        for _ in range(3):
            await rotator.check(conmon.pods)

    asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == ["WARNING"], "it is said once"
    assert conmon.files() == ["ctr.log", "ctr.log.1", "ctr.log.2"] or conmon.files() == [
        "ctr.log",
        "ctr.log.1",
    ]


def test_under_disk_pressure_rotated_files_go_and_the_current_one_stays(conmon: Conmon) -> None:
    async def scenario() -> None:
        rotator = conmon.rotator(max_files=5)
        for _ in range(4):
            conmon.write(10)
            await rotator.check(conmon.pods)
        conmon.write(2)
        rotator.drop_rotated(conmon.pods)
        assert conmon.files() == ["ctr.log"]
        assert conmon.read() == [40, 41]

    asyncio.run(scenario())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 25), st.booleans(), st.booleans()), max_size=12))
def test_whatever_fails_in_between_the_log_stays_whole(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, bool]]
) -> None:
    """Lines are lost from the beginning alone, none is doubled, and no more files are kept than may be."""
    conmon = Conmon(tmp_path_factory.mktemp("log"))

    async def scenario() -> None:
        for lines, works, check in steps:
            conmon.write(lines)
            conmon.works = works
            if check:
                await conmon.rotator(max_files=4).check(conmon.pods)
            found = conmon.read() if conmon.count else []
            assert found == list(range(conmon.count - len(found), conmon.count))
            assert len(conmon.files()) <= 4

    asyncio.run(scenario())
    conmon.close()


def test_a_rotation_while_it_is_being_read_doubles_nothing(
    conmon: Conmon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        rotator = conmon.rotator(max_files=5)
        for _ in range(2):
            conmon.write(10)
            await rotator.check(conmon.pods)
        conmon.write(10)

    asyncio.run(scenario())
    read, again = os.pread, [True]

    def rotate_then_read(descriptor: int, size: int, offset: int) -> bytes:
        if again:
            again.clear()
            for number in (2, 1):
                os.replace(f"{conmon.path}.{number}", f"{conmon.path}.{number + 1}")
            os.replace(conmon.path, f"{conmon.path}.1")
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", rotate_then_read)
    assert conmon.read() == list(range(30))
