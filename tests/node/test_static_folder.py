"""StaticPods on a real folder: what is in it is told after every change, a bad file loses nothing good."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.api.inotify import Inotify
from edgeagent.node.static import folder as folder_module
from edgeagent.node.static import texts as texts_module
from edgeagent.node.static.folder import RETRY_SECONDS, SETTLE_LIMIT_SECONDS, SETTLE_SECONDS, StaticPods
from edgeagent.node.static.kept import KeptFiles
from edgeagent.node.static.manifest import StaticObject
from edgeagent.node.static.texts import Texts
from tests.node.plugin_kit import VirtualClock
from tests.support.waiting import wait_for_async

POD = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": "busybox"}]}}


class World:
    """A folder, and an agent's static pods that may be restarted."""

    def __init__(self, directory: Path) -> None:
        self.clock = VirtualClock()
        self.folder = directory / "manifests"
        self.folder.mkdir(exist_ok=True)
        self.kept = directory / "state" / "static.json"
        self.told: list[Mapping[str, StaticObject]] = []
        self.warnings: list[str] = []
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """As a new agent does."""
        self.told.clear()
        self.static = StaticPods(
            self.folder,
            node="n1",
            clock=self.clock,
            kept=KeptFiles(self.kept, node="n1", folder=self.folder),
            on_objects=self.told.append,
            on_problems=lambda: None,
            warn=lambda reason, message: self.warnings.append(message),
        )
        self.task = asyncio.create_task(self.static.run())

    async def stop(self) -> None:
        """As an agent does that ends."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()

    async def restart(self) -> None:
        """One after the other."""
        await self.stop()
        self.start()

    def write(self, file: str, *names: str, **spec: object) -> None:
        """A JSON file with pods of these names."""
        items = [{**POD, "metadata": {"name": name}, "spec": {**POD["spec"], **spec}} for name in names]  # type: ignore[dict-item]
        text = json.dumps(items[0] if len(items) == 1 else {"kind": "List", "items": items})
        (self.folder / file).write_text(text)

    async def until(self, *names: str, problems: int | None = 0) -> None:
        """Wait until these are the objects, without the node's name, and so many problems."""

        def reached() -> bool:
            return (
                bool(self.told)
                and self.names() == sorted(names)
                and (problems is None or len(self.static.problems) == problems)
            )

        await self.passing(reached, f"{names} with {problems} problems")

    async def passing(
        self, condition: Callable[[], bool], what: str, seconds: float = SETTLE_SECONDS
    ) -> None:
        """Let time pass until ``condition`` holds."""

        def holds() -> bool:
            self.clock.advance(seconds)
            return condition()

        await wait_for_async(holds, 10, what)

    def names(self) -> list[str]:
        """What was told last."""
        return sorted(
            one.metadata.name.removesuffix("-n1") for one in (self.told[-1].values() if self.told else ())
        )

    def uids(self) -> set[str]:
        """What was told last."""
        return set(self.told[-1])


def run(directory: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with World(directory) as world:
            await scenario(world)

    asyncio.run(main())


def test_objects_follow_the_files(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.until()
        world.write("a.json", "web")
        await world.until("web")
        before = world.uids()
        world.write("b.json", "db", "cache")
        await world.until("web", "db", "cache")
        assert before < world.uids()
        world.write("a.json", "web", restartPolicy="Never")
        await world.passing(lambda: not before & world.uids(), "a new pod")
        (world.folder / "b.json").unlink()
        await world.until("web")

    run(tmp_path, scenario)


def test_yaml_with_all_three_kinds(tmp_path: Path) -> None:
    text = """
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: settings}
        data: {A: "1"}
        ---
        apiVersion: v1
        kind: Secret
        metadata: {name: login}
        stringData: {B: "2"}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: web}
        spec: {containers: [{name: main, image: busybox}]}
    """

    async def scenario(world: World) -> None:
        (world.folder / "all.yaml").write_text("\n".join(line[8:] for line in text.splitlines()))
        await world.until("login", "settings", "web")

    run(tmp_path, scenario)


def test_a_bad_file_keeps_what_was_good_and_is_named_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        world.write("b.json", "db")
        await world.until("web", "db")
        before = world.uids()
        (world.folder / "a.json").write_text('{"apiVersion": "v1", "kind": "Pod", "metadata"')
        await world.until("web", "db", problems=1)
        assert world.uids() == before
        ((path, problem),) = world.static.problems.items()
        assert path == str(world.folder / "a.json")
        assert "what it held before stays" in problem
        world.write("b.json", "other")
        await world.until("web", "other", problems=1)
        assert len(world.warnings) == 1
        assert world.warnings[0].startswith(f"{path}: ")
        world.write("a.json", "web")
        await world.until("web", "other")
        assert before & world.uids()
        (world.folder / "a.json").write_text("")
        await world.until("web", "other", problems=1)
        (world.folder / "a.json").unlink()
        await world.until("other")

    run(tmp_path, scenario)


def test_an_agent_that_starts_upon_a_bad_file_goes_on_with_what_was_good(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.write("a.json", "web", "db")
        await world.until("web", "db")
        before = world.uids()
        await world.stop()
        (world.folder / "a.json").write_text("{{")
        world.start()
        await world.until("web", "db", problems=1)
        assert world.uids() == before
        await world.restart()
        await world.until("web", "db", problems=1)
        assert len(world.told) == 1

    run(tmp_path, scenario)


def test_what_is_kept_holds_no_secret_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"k": "hush-hush"},
    }

    async def scenario(world: World) -> None:
        items = [secret, {**POD, "metadata": {"name": "web"}}]
        (world.folder / "a.json").write_text(json.dumps({"kind": "List", "items": items}))
        await world.until("s", "web")
        kept = world.kept.read_text()
        assert "web-n1" in kept
        assert "hush" not in kept
        assert "aHVzaC1odXNo" not in kept
        assert os.stat(world.kept).st_mode & 0o077 == 0
        await world.restart()
        await world.until("s", "web")
        assert len(world.told) == 1

    run(tmp_path, scenario)


@pytest.mark.parametrize("damage", ["{", "", '{"version":9,"node":"n1","folder":"x"}', "\x00" * 100])
def test_a_damaged_memory_of_the_folder_costs_nothing(tmp_path: Path, damage: str) -> None:
    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        await world.until("web")
        await world.stop()
        world.kept.write_text(damage)
        world.start()
        await world.until("web")

    run(tmp_path, scenario)


def test_a_memory_of_another_node_is_of_no_use(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        await world.until("web")
        assert KeptFiles(world.kept, node="n1", folder=world.folder).load().keys() == {"a.json"}
        assert KeptFiles(world.kept, node="n2", folder=world.folder).load() == {}
        assert KeptFiles(world.kept, node="n1", folder=world.folder.parent).load() == {}

    run(tmp_path, scenario)


def test_an_unchanged_folder_writes_no_disk_and_reads_no_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    real = texts_module.parse

    async def parse(files: Mapping[str, Any]) -> Any:
        parsed.extend(files)
        return await real(files)

    monkeypatch.setattr(folder_module, "parse", parse)

    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        (world.folder / "bad.json").write_text("{{")
        await world.until("web", problems=1)
        written = os.stat(world.kept).st_mtime_ns
        world.write("b.json", "db")
        await world.until("web", "db", problems=1)
        assert sorted(parsed) == ["a.json", "b.json", "bad.json"]
        (world.folder / "b.json").unlink()
        await world.until("web", problems=1)
        kept = os.stat(world.kept).st_mtime_ns
        assert kept != written
        parsed.clear()
        os.utime(world.folder / "a.json")
        await world.restart()
        await world.until("web", problems=1)
        assert parsed == ["bad.json"]
        assert os.stat(world.kept).st_mtime_ns == kept

    run(tmp_path, scenario)


def test_a_file_saved_again_makes_its_pod_no_younger(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        os.utime(world.folder / "a.json", (1000, 1000))
        await world.until("web")
        (one,) = world.told[-1].values()
        assert one.metadata.creation_timestamp == "1970-01-01T00:16:40Z"
        text = (world.folder / "a.json").read_text()
        (world.folder / "a.json").write_text(text + "\n")
        world.write("b.json", "db")
        await world.until("web", "db")
        assert world.told[-1][one.metadata.uid] == one

    run(tmp_path, scenario)


def test_a_burst_is_read_as_one_and_not_put_off_for_ever(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.until()
        for number in range(20):
            world.write(f"{number}.json", f"p{number}")
            await asyncio.sleep(0)
        await world.until(*(f"p{number}" for number in range(20)))
        assert len(world.told) == 2
        # Somebody who never stops writing.
        start = world.clock.monotonic()
        number = 0
        while len(world.told) == 2:
            number += 1
            world.write("busy.json", f"busy{number}")
            await asyncio.sleep(0.001)
            world.clock.advance(SETTLE_SECONDS / 2)
        # The clock goes on while the folder is read, which takes longer on a busy machine.
        assert world.clock.monotonic() - start < 20 * SETTLE_LIMIT_SECONDS

    run(tmp_path, scenario)


def test_a_folder_that_goes_takes_its_pods_and_brings_them_back(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        await world.until("web")
        before = world.uids()
        away = world.folder.with_name("away")
        world.folder.rename(away)
        await world.until()
        away.rename(world.folder)
        await world.until("web")
        assert world.uids() == before

    run(tmp_path, scenario)


def test_a_folder_that_cannot_be_read_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Texts:
        raise TemporaryError(f"{path} cannot be read: Input/output error")

    async def scenario(world: World) -> None:
        world.write("a.json", "web")
        await world.until("web")
        before = world.uids()
        with monkeypatch.context() as patch:
            patch.setattr(folder_module, "read_folder", broken)
            world.write("b.json", "db")
            await world.until("web", problems=1)
            await world.restart()
            await world.until("web", problems=1)
            assert world.uids() == before
            # Neither the folder nor a memory of it: nothing is said, so nothing is taken down.
            await world.stop()
            world.kept.unlink()
            world.start()
            await wait_for_async(lambda: bool(world.static.problems), 10, "the problem")
            assert world.told == []
        world.clock.advance(RETRY_SECONDS)
        await world.until("web", "db")

    run(tmp_path, scenario)


def test_a_folder_that_cannot_be_watched_is_read_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(self: Inotify, path: Path, mask: int) -> int:
        raise TemporaryError(f"{path} cannot be watched: No space left on device")

    async def scenario(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Inotify, "watch", no_room)
            await world.restart()
            world.write("a.json", "web")
            await world.passing(lambda: world.names() == ["web"], "web", RETRY_SECONDS)
            assert "changes are not noticed" in next(iter(world.static.problems.values()))
        await world.passing(lambda: not world.static.problems, "the watch", RETRY_SECONDS)
        world.write("b.json", "db")
        await world.until("web", "db")

    run(tmp_path, scenario)
