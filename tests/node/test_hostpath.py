"""hostPath volumes that several pods want made at one time."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.objects.volume import HostPathVolumeSource
from edgeagent.node.pods.volumes import hostpath
from edgeagent.node.pods.volumes.hostpath import check_host_path
from edgeagent.node.pods.volumes.hostthreads import HostThreads


@pytest.mark.parametrize("kind", ["DirectoryOrCreate", "FileOrCreate", ""])
def test_all_that_want_it_made_get_it(tmp_path: Path, kind: str) -> None:
    failed: list[Exception] = []

    def check(source: HostPathVolumeSource, together: threading.Barrier) -> None:
        together.wait()
        try:
            check_host_path(source, tmp_path)
        except (EdgeAgentError, OSError) as error:
            failed.append(error)

    for number in range(60):
        below = "/a/b" if kind != "FileOrCreate" else ""
        source, together = HostPathVolumeSource(path=f"/{number}{below}", type=kind), threading.Barrier(4)  # type: ignore[arg-type]
        threads = [threading.Thread(target=check, args=(source, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


@pytest.mark.parametrize(
    ("kind", "words"), [("DirectoryOrCreate", "a directory"), ("FileOrCreate", "a file")]
)
def test_what_came_meanwhile_must_be_of_the_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    """Another program makes something else at that path after it was looked for."""
    path = tmp_path / "x"
    look = hostpath._mode

    def looked(asked: Path) -> int | None:
        found = look(asked)
        if found is None:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        return found

    monkeypatch.setattr(hostpath, "_mode", looked)
    with pytest.raises(PermanentError, match=f"/x is not {words}"):
        check_host_path(HostPathVolumeSource(path="/x", type=kind), tmp_path)  # type: ignore[arg-type]


def nobody_waits(answer: int) -> None:
    """An answer that came too late."""


def test_looks_of_one_pod_at_one_time_wait_for_one_another() -> None:
    answered = threading.Event()

    def slow() -> int:
        answered.wait()
        return 1

    async def scenario() -> None:
        threads = HostThreads(30)
        works = (slow, lambda: 2, lambda: 3)
        looks = [asyncio.create_task(threads.run("u1", "/data", work, nobody_waits)) for work in works]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(look.done() for look in looks)
        answered.set()
        assert await asyncio.gather(*looks) == [1, 2, 3]

    asyncio.run(scenario())


def test_a_look_waits_for_another_no_longer_than_for_its_own_answer() -> None:
    answered = threading.Event()

    async def scenario() -> None:
        threads = HostThreads(0.3)
        loop = asyncio.get_running_loop()

        async def look() -> float:
            began = loop.time()
            with pytest.raises(TemporaryError, match="/data does not answer"):
                await threads.run("u1", "/data", answered.wait, nobody_waits)
            return loop.time() - began

        first = asyncio.create_task(look())
        await asyncio.sleep(0)
        second = asyncio.create_task(look())
        assert min(await asyncio.gather(first, second)) >= 0.29
        assert await look() < 0.2, "the pod is known to wait for a dead server"

    try:
        asyncio.run(scenario())
    finally:
        answered.set()
