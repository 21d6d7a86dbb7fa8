"""File descriptors out of a plugin's lane: whoever waits for one owns it, and on no way does one stay open.

The plugin keeps the other end of a socket pair, says its name on it, and tells of its end in a file: that is
how both are seen from outside.
"""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.descriptors import DescriptorHolder, is_open, release
from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import ExecOptions, ExecSession
from edgeagent.node.plugins import facades
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.plugins.host import PluginHost
from tests.node.plugin_kit import Kit, child_pid, on_path, statuses
from tests.support.waiting import wait_for_async

BOTH = pytest.mark.parametrize("isolation", ["thread", "process"])
OPTIONS = ExecOptions(command=["sh"])


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with on_path(Kit(tmp_path), monkeypatch) as made:
        yield made


def open_sockets() -> set[str]:
    """The sockets of this process, by what the kernel calls them."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue  # that of the listing itself
        if target.startswith("socket:"):
            found.add(target)
    return found


async def ended(kit: Kit, name: str) -> None:
    """Wait until the plugin has seen the other end of this session closed, by everybody who held it."""
    await wait_for_async(lambda: kit.run_file("rt", f"end-{name}").exists(), what=f"the end of {name}")


async def read(session: ExecSession) -> bytes:
    """What the plugin says first."""
    with socket.socket(fileno=os.dup(session.descriptor)) as mine:
        mine.setblocking(False)
        return await asyncio.get_running_loop().sock_recv(mine, 100)


@BOTH
def test_a_session_works_and_is_the_receivers_alone(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=4)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        await runtime.info()
        before = open_sockets()
        session = await runtime.start_exec("one", OPTIONS)
        assert (session.id, await read(session)) == ("one", b"one")
        assert not os.get_inheritable(session.descriptor)
        release(session)
        await ended(kit, "one")
        await wait_for_async(lambda: open_sockets() == before, what="nothing to be left")
        assert not is_open(session)

    kit.with_runtime(body)


@BOTH
def test_each_caller_gets_the_one_that_is_theirs(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=8, queue=100)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        before = open_sockets()
        names = [f"s{number}" for number in range(30)]
        calls = [runtime.start_exec(name, OPTIONS) for name in names]
        others = [runtime.pull_image(f"r{number}", None) for number in range(30)]
        pairs = [one for pair in zip(calls, others, strict=True) for one in pair]
        found = (await asyncio.gather(*pairs))[::2]
        for name, session in zip(names, found, strict=True):
            assert isinstance(session, ExecSession)
            assert (session.id, await read(session)) == (name, name.encode())
            release(session)
        await wait_for_async(
            lambda: isolation == "process" or open_sockets() == before, what="nothing to be left"
        )

    kit.with_runtime(body)


@BOTH
def test_a_caller_who_gave_up_leaves_none(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        task = asyncio.ensure_future(runtime.start_exec("hang-1", OPTIONS))
        await wait_for_async(lambda: kit.run_file("rt", "hang-1").exists(), what="the call to run")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kit.run_file("rt", "release").touch()
        await ended(kit, "hang-1")

    kit.with_runtime(body)


@BOTH
def test_an_answer_together_with_the_cancellation(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        lane = host._hosted["rt"].lane
        for number in range(5):
            task = asyncio.ensure_future(runtime.start_exec(f"s{number}", OPTIONS))
            while not lane.load().busy:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0)
            # Cancelled in the turn of the loop in which the answer is there and the caller is not yet awake.
            while lane.load().busy:  # noqa: ASYNC110 - there is no event for it: that is the point
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                release(await task)
            await ended(kit, f"s{number}")

    kit.with_runtime(body)


def test_a_thread_that_comes_back_too_late(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.install_runtime(isolation="thread", workers=2)
    monkeypatch.setattr(facades, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(facades.Facade._ask, "__kwdefaults__", {"deadline": 0.05})

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        with pytest.raises(TemporaryError, match="did not answer start_exec"):
            await runtime.start_exec("hang-1", OPTIONS)
        kit.run_file("rt", "release").touch()
        await ended(kit, "hang-1")

    kit.with_runtime(body)


@BOTH
@pytest.mark.parametrize(
    ("name", "words"), [("none", "without an open file descriptor"), ("closed", "without an open file desc")]
)
def test_an_answer_that_holds_none_is_the_plugins_fault(
    kit: Kit, isolation: str, name: str, words: str
) -> None:
    kit.install_runtime(isolation=isolation)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        pid = (await runtime.info()).version
        with pytest.raises(TemporaryError, match=words) as caught:
            await runtime.start_exec(name, OPTIONS)
        assert caught.value.reason == "WrongAnswer"
        assert (await runtime.info()).version == pid, "it lives on"

    kit.with_runtime(body)


@BOTH
def test_an_answer_of_the_wrong_type_is_closed(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        with pytest.raises(TemporaryError, match="expected None"):
            await runtime.reopen_log("wrong")
        await ended(kit, "wrong")

    kit.with_runtime(body)


@pytest.mark.parametrize("name", ["ill-typed", "unencodable", "huge"])
def test_an_answer_that_does_not_cross_is_closed_on_both_sides(kit: Kit, name: str) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        await runtime.info()
        before = open_sockets()
        with pytest.raises(TemporaryError):
            await runtime.start_exec(name, OPTIONS)
        await ended(kit, name)
        assert open_sockets() == before
        session = await runtime.start_exec("next", OPTIONS)
        assert await read(session) == b"next"
        release(session)

    kit.with_runtime(body)


def test_a_session_outlives_the_child_that_made_it(kit: Kit) -> None:
    """The socket is the kernel's: what is behind it may be another process than the child, as with Podman."""
    kit.install_runtime(isolation="process", idle_seconds=0.05)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        session = await runtime.start_exec("one", OPTIONS)
        pid = child_pid(host)
        await wait_for_async(lambda: not Path(f"/proc/{pid}").exists(), what="the child to end for idleness")
        assert await read(session) == b"one"
        assert is_open(session)
        release(session)

    kit.with_runtime(body)


def test_descriptors_that_belong_to_no_answer_are_closed(kit: Kit) -> None:
    kit.install_runtime(isolation="process", workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        await runtime.info()
        before = open_sockets()
        with pytest.raises(TemporaryError, match="sent what is no answer"):
            await runtime.start_exec("unasked-3", OPTIONS)
        await wait_for_async(lambda: open_sockets() <= before, what="nothing to be left")

    kit.with_runtime(body)


def test_with_no_descriptor_free_the_call_fails_and_nothing_is_left(kit: Kit) -> None:
    kit.install_runtime(isolation="process", workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        await runtime.info()
        before = open_sockets()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = min(number for number in range(3, soft) if not is_open(DescriptorHolder(descriptor=number)))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(TemporaryError):
                await runtime.start_exec("one", OPTIONS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await wait_for_async(lambda: open_sockets() <= before, what="nothing to be left")
        session = await runtime.start_exec("two", OPTIONS)
        assert await read(session) == b"two"
        release(session)

    kit.with_runtime(body)


@BOTH
def test_stop_leaves_none(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        task = asyncio.ensure_future(runtime.start_exec("hang-1", OPTIONS))
        await wait_for_async(lambda: kit.run_file("rt", "hang-1").exists(), what="the call to run")
        before = open_sockets()
        stopping = asyncio.ensure_future(host.stop())
        with pytest.raises(TemporaryError):
            await task
        kit.run_file("rt", "release").touch()
        await stopping
        assert statuses(host)["rt"].state == "Stopped"
        if isolation == "thread":
            await ended(kit, "hang-1")
        await wait_for_async(lambda: open_sockets() <= before, what="nothing to be left")

    kit.with_runtime(body)
