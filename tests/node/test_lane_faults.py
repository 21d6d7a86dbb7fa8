"""Both lanes, through the public door: a plugin that raises, hangs, floods, dies or lies harms itself."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import ContainerConfig, PullCredentials, RuntimeInfo
from edgeagent.node.plugins import facades
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.plugins.host import PluginHost
from tests.node.plugin_kit import Kit, child_pid, on_path, statuses
from tests.support.waiting import wait_for_async

BOTH = pytest.mark.parametrize("isolation", ["thread", "process"])


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with on_path(Kit(tmp_path), monkeypatch) as made:
        yield made


async def _gone(pid: int) -> None:
    await wait_for_async(lambda: not Path(f"/proc/{pid}").exists(), what=f"the end of process {pid}")


async def _error(call: object) -> TemporaryError:
    with pytest.raises(TemporaryError) as caught:
        await call  # type: ignore[misc]
    return caught.value


@BOTH
def test_calls_carry_arguments_and_answers(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        assert statuses(host)["rt"].state == "Loaded"
        first = await runtime.info()
        assert first == RuntimeInfo(name="blue-1", version=first.version)
        assert (int(first.version) == os.getpid()) == (isolation == "thread")
        assert await runtime.info() == RuntimeInfo(name="blue-2", version=first.version)
        assert await runtime.find_image("x") is None
        image = await runtime.pull_image("x", PullCredentials(username="me", password="p"))
        assert image.reference == "x me"
        assert image.id.startswith("n1 c1 ")
        assert "MainThread" not in image.id
        made = await runtime.create_container(ContainerConfig(name="n", image="i", labels={"a": "b"}))
        assert (made.id, made.labels) == ("n", {"a": "b"})
        await runtime.remove_container("n")
        status = statuses(host)["rt"]
        assert (status.state, status.reason, status.lane, status.busy) == ("Running", "", isolation, 0)
        assert kit.changes == 1

    kit.with_runtime(body, colour="blue")


@BOTH
def test_errors_on_purpose_are_answers_and_cost_the_plugin_nothing(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        for _ in range(5):
            error = await _error(runtime.pull_image("temporary", None))
            assert (str(error), error.delay, error.reason) == ("no registry", 7.5, "ErrImagePull")
        assert statuses(host)["rt"].state == "Loaded"
        with pytest.raises(PermanentError, match="no such image") as caught:
            await runtime.pull_image("permanent", None)
        assert caught.value.reason == "InvalidImageName"
        await runtime.info()
        assert statuses(host)["rt"].state == "Running"

    kit.with_runtime(body)


@BOTH
@pytest.mark.parametrize("how", ["bug", "exit"])
def test_three_raises_in_a_row_are_a_backoff_that_ends(
    kit: Kit, isolation: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    kit.install_runtime(isolation=isolation)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        for _ in range(3):
            error = await _error(runtime.pull_image(how, None))
            assert error.reason == "PluginError"
            assert ("KeyError" if how == "bug" else "SystemExit: 3") in str(error)
        assert "in pull_image" in caplog.text, "the traceback is logged"
        status = statuses(host)["rt"]
        assert (status.state, status.reason) == ("Backoff", str(error))
        refused = await _error(runtime.info())
        assert refused.reason == "PluginBackoff"
        assert refused.delay is not None
        assert 0 < refused.delay <= 1
        kit.clock.advance(refused.delay)
        await runtime.info()
        assert statuses(host)["rt"].state == "Running"

    kit.with_runtime(body)


@BOTH
@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("list", "list_containers answered with list[ContainerRecord | str], expected list[ContainerRecord]"),
        ("start", "start_container answered with None, expected ContainerRecord"),
        ("stop", "edgeagent_container_runtime answered with Runtime, which has no method stop_container"),
    ],
)
def test_a_wrong_answer_is_the_plugins_fault(kit: Kit, isolation: str, method: str, words: str) -> None:
    kit.install_runtime(isolation=isolation)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        for _ in range(3):
            if method == "list":
                error = await _error(runtime.list_containers())
            elif method == "start":
                error = await _error(runtime.start_container("x"))
            else:
                error = await _error(runtime.stop_container("x", 1))
            assert (str(error), error.reason) == (words, "WrongAnswer")
        assert statuses(host)["rt"].state == "Backoff"

    kit.with_runtime(body)


def test_an_ill_typed_field_is_found_when_it_crosses_the_process_boundary(kit: Kit) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        error = await _error(runtime.pull_image("ill-typed", None))
        assert error.reason == "WrongAnswer"
        assert "$.id" in str(error)

    kit.with_runtime(body)


@BOTH
def test_a_full_lane_refuses_at_once(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=1, queue=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        tasks = [asyncio.ensure_future(runtime.pull_image(f"hang{n}", None)) for n in range(3)]
        await wait_for_async(lambda: kit.run_file("rt", "hang0").exists(), what="the call to run")
        status = statuses(host)["rt"]
        assert (status.busy, status.queued) == (1, 2)
        error = await _error(runtime.info())
        assert (error.reason, str(error)) == ("LaneFull", "plugin rt is too busy: 1 calls run and 2 wait")
        tasks[2].cancel()
        await wait_for_async(
            lambda: statuses(host)["rt"].queued == 1, what="a cancelled call to leave the queue"
        )
        kit.run_file("rt", "release").touch()
        assert [image.reference for image in await asyncio.gather(*tasks[:2])] == ["hang0 None", "hang1 None"]
        assert not kit.run_file("rt", "hang2").exists()

    kit.with_runtime(body)


@BOTH
def test_as_many_calls_run_at_once_as_there_are_workers(kit: Kit, isolation: str) -> None:
    kit.install_runtime(isolation=isolation, workers=3)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        tasks = [asyncio.ensure_future(runtime.pull_image(f"hang{n}", None)) for n in range(4)]
        files = [kit.run_file("rt", f"hang{n}") for n in range(3)]
        await wait_for_async(lambda: all(file.exists() for file in files), what="three calls to run")
        assert (statuses(host)["rt"].busy, statuses(host)["rt"].queued) == (3, 1)
        kit.run_file("rt", "release").touch()
        await asyncio.gather(*tasks)

    kit.with_runtime(body)


def test_a_thread_that_hangs_is_replaced_and_the_third_is_the_end(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.install_runtime(isolation="thread", workers=1)
    monkeypatch.setattr(facades, "PULL_SECONDS", 0.05)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        for number in range(1, 3):
            error = await _error(runtime.pull_image(f"hang{number}", None))
            assert (error.reason, str(error)) == (
                "DeadlineExceeded",
                "plugin rt did not answer pull_image within 0.05 s",
            )
            await runtime.info()
            hang = "1 thread hangs" if number == 1 else "2 threads hang"
            assert (statuses(host)["rt"].state, statuses(host)["rt"].reason) == ("Running", hang)
        await _error(runtime.pull_image("hang3", None))
        status = statuses(host)["rt"]
        assert status.state == "Failed"
        assert "restart the agent" in status.reason
        assert (await _error(runtime.info())).reason == "PluginFailed"
        kit.run_file("rt", "release").touch()
        await wait_for_async(
            lambda: host._hosted["rt"].lane.load().abandoned == 0, what="the threads to come back"
        )
        assert statuses(host)["rt"].state == "Failed"

    kit.with_runtime(body)


def test_a_child_that_hangs_is_killed_and_the_next_call_has_a_new_one(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.install_runtime(isolation="process", workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        first = await runtime.info()
        other = asyncio.ensure_future(runtime.pull_image("hang-other", None))
        await wait_for_async(lambda: kit.run_file("rt", "hang-other").exists(), what="the other call to run")
        monkeypatch.setattr(facades, "PULL_SECONDS", 0.05)
        error = await _error(runtime.pull_image("hang", None))
        assert error.reason == "DeadlineExceeded"
        victim = await _error(other)
        assert (victim.reason, str(victim)) == (
            "LaneDied",
            "the process of plugin rt was killed, for pull_image hung in it",
        )
        await _gone(int(first.version))
        second = await runtime.info()
        assert second.version != first.version
        assert second.name == "red-1", "a new child has new objects"

    kit.with_runtime(body)


def test_a_child_killed_in_a_call_fails_that_call_alone(kit: Kit) -> None:
    kit.install_runtime(isolation="process", workers=2)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        first = await runtime.info()
        calls = [asyncio.ensure_future(runtime.pull_image(f"hang{n}", None)) for n in range(2)]
        files = [kit.run_file("rt", f"hang{n}") for n in range(2)]
        await wait_for_async(lambda: all(file.exists() for file in files), what="the calls to run")
        os.kill(int(first.version), signal.SIGKILL)
        for call in calls:
            error = await _error(call)
            assert (error.reason, str(error)) == (
                "LaneDied",
                "the process of plugin rt was killed by SIGKILL",
            )
        assert (await runtime.info()).version != first.version
        assert statuses(host)["rt"].state == "Running"

    kit.with_runtime(body)


def test_a_child_that_dies_again_and_again_is_left_alone(kit: Kit) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        for _ in range(3):
            assert (await _error(runtime.pull_image("die", None))).reason == "LaneDied"
        assert statuses(host)["rt"].state == "Backoff"
        assert child_pid(host) == 0

    kit.with_runtime(body)


def test_a_child_that_ignores_the_protocol_is_killed(kit: Kit) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        error = await _error(runtime.pull_image("garbage", None))
        assert error.reason == "LaneDied"
        assert "sent what is no answer: a frame of 4294967295 bytes" in str(error)
        await runtime.info()

    kit.with_runtime(body)


def test_an_answer_beyond_the_frame_size_is_the_plugins_fault_and_the_child_lives(kit: Kit) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        pid = (await runtime.info()).version
        error = await _error(runtime.pull_image("huge", None))
        assert error.reason == "WrongAnswer"
        assert "more than the 16777216 allowed" in str(error)
        assert (await runtime.info()).version == pid

    kit.with_runtime(body)


def test_large_arguments_cross_and_too_large_ones_are_refused(kit: Kit) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        config = ContainerConfig(name="n", image="i", labels={}, env={"BIG": "x" * 10_000_000})
        assert (await runtime.create_container(config)).image == "10000000"
        config = ContainerConfig(name="n", image="i", labels={}, env={"BIG": "x" * 17_000_000})
        with pytest.raises(PermanentError, match="more than the 16777216 allowed") as caught:
            await runtime.create_container(config)
        assert caught.value.reason == "BadArguments"
        assert statuses(host)["rt"].state == "Running"

    kit.with_runtime(body)


def test_an_idle_child_ends_and_comes_back(kit: Kit) -> None:
    kit.install_runtime(isolation="process", idle_seconds=0.1)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        first = await runtime.info()
        await _gone(int(first.version))
        assert child_pid(host) == 0
        assert (await runtime.info()).version != first.version
        assert statuses(host)["rt"].state == "Running"

    kit.with_runtime(body)


def test_a_warmed_child_serves_the_next_call_and_ends_when_none_comes(kit: Kit) -> None:
    kit.install_runtime(isolation="process", idle_seconds=0.3)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        runtime.warm()
        pid = child_pid(host)
        runtime.warm()
        assert (await runtime.info()).version == str(pid)
        await _gone(pid)
        runtime.warm()
        pid = child_pid(host)
        await _gone(pid)

    kit.with_runtime(body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_child_leaves_its_end_to_the_agent(kit: Kit, number: signal.Signals) -> None:
    kit.install_runtime(isolation="process")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        first = await runtime.info()
        os.kill(int(first.version), number)
        assert (await runtime.info()).version == first.version

    kit.with_runtime(body)


def test_the_child_is_clean(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor of the agent, no standard input, the agent's environment, no more modules than needed."""
    kit.install_runtime(isolation="process")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        seen = await runtime.wait_container("x")
        assert seen.id == "/nowhere"
        assert seen.name == "/dev/null"
        descriptors = seen.image.split()
        assert len(descriptors) == 5, descriptors  # 0 to 2, the socket, and the folder being listed
        heavy = {
            "asyncio",
            "socket",
            "subprocess",
            "importlib.metadata",
            "edgeagent.node.plugins.host",
            "psutil",
        }
        assert not heavy & seen.labels.keys()

    kit.with_runtime(body)


def test_stop_ends_a_child_that_hangs_and_its_callers(kit: Kit) -> None:
    kit.install_runtime(isolation="process", queue=5)
    seen: list[asyncio.Future[object]] = []
    pids: list[int] = []

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        for number in range(2):
            seen.append(asyncio.ensure_future(runtime.pull_image(f"hang{number}", None)))
        await wait_for_async(lambda: kit.run_file("rt", "hang0").exists(), what="the call to run")
        pids.append(child_pid(host))
        await host.stop()
        for call in seen:
            assert (await _error(call)).reason == "PluginStopped"
        assert statuses(host)["rt"].state == "Stopped"
        assert (await _error(runtime.info())).reason == "PluginStopped"
        assert _dead(pids[0])

    kit.with_runtime(body)


def test_a_child_ends_with_the_agent(kit: Kit, tmp_path: Path) -> None:
    """The agent is killed; its child, in the middle of a call, sees the socket close."""
    kit.install_runtime(isolation="process")
    script = tmp_path / "agent.py"
    script.write_text(
        "import asyncio, random, sys\nfrom pathlib import Path\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from edgeagent.api.clock import SystemClock\n"
        "from edgeagent.node.plugins.host import PluginHost\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "async def main():\n"
        "    host = PluginHost({'podman': {'enabled': False}}, node_name='n', cluster='c',\n"
        "                      state_dir=folder / 's', run_dir=folder / 'run', identity_dir=folder,\n"
        "                      clock=SystemClock(), random=random.Random(1), on_change=lambda: None)\n"
        "    host.load()\n"
        "    await host.runtime().pull_image('hang', None)\n"
        "asyncio.run(main())\n"
    )

    async def main() -> None:
        agent = await asyncio.create_subprocess_exec(sys.executable, str(script))
        mark = kit.run_file("rt", "hang")
        pid = int(await wait_for_async(lambda: mark.exists() and mark.read_text(), what="the call to run"))
        assert not _dead(pid)
        agent.kill()
        await agent.wait()
        await wait_for_async(lambda: _dead(pid), what="the end of the child")

    asyncio.run(main())


def _dead(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_plugin_that_does_not_load_in_its_child_says_why(kit: Kit) -> None:
    kit.install_runtime(isolation="process", queue=5)

    async def body(host: PluginHost, runtime: RuntimeFacade) -> None:
        (kit.site / "kitplug_rt.py").write_text("raise ImportError('gone')\n")
        errors = await asyncio.gather(*(runtime.info() for _ in range(3)), return_exceptions=True)
        for error in errors:
            assert str(error) == "plugin rt cannot be loaded in its process: ImportError: gone"
        assert statuses(host)["rt"].state == "Loaded", "one fault, not three"

    kit.with_runtime(body)
