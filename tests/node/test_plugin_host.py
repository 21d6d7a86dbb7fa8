"""The host: call order, services and their supervision, back-off, stop in reverse order."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.node.plugins.health import BACKOFF_CEILING_SECONDS
from tests.node.plugin_kit import HEADER, INFO, Kit, child_pid, on_path, statuses, stopping
from tests.support.waiting import wait_for_async

SERVICE = (
    HEADER
    + """
import os
from pathlib import Path

class Service:
    def __init__(self, ctx):
        self.ctx = ctx

    def say(self, what):
        with (self.ctx.run_dir.parent / "log").open("a") as log:
            log.write(f"{what} {NAME} {os.getpid()}\\n")

    def start(self):
        self.say("start")
        mode = self.ctx.run_dir.parent / f"mode-{NAME}"
        mode = mode.read_text() if mode.exists() else ""
        if mode == "temporary":
            raise TemporaryError("not yet", delay=40.0)
        if mode == "permanent":
            raise PermanentError("never")
        if mode == "bug":
            raise RuntimeError("bug")

    def stop(self):
        self.say("stop")

@hookimpl
def edgeagent_plugin_info():
    return PluginInfo(name=NAME, version="1", summary="s", lane=LaneSpec(**LANE))

@hookimpl
def edgeagent_service(ctx):
    return Service(ctx)
"""
)


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    with on_path(Kit(tmp_path), monkeypatch) as made:
        yield made


def _install(kit: Kit, name: str, mode: str = "", **lane: object) -> None:
    kit.install(name, f"NAME = {name!r}\nLANE = {lane!r}\n" + SERVICE)
    run = kit.folder / "run"
    run.mkdir(exist_ok=True)
    (run / f"mode-{name}").write_text(mode)


def _said(kit: Kit) -> list[str]:
    log = kit.folder / "run" / "log"
    return [line.rpartition(" ")[0] for line in log.read_text().splitlines()] if log.exists() else []


async def _pauses(kit: Kit, count: int) -> None:
    await wait_for_async(lambda: len(kit.clock.sleeps) == count, what=f"pause {count}")


def _pids(kit: Kit) -> list[str]:
    return [line.split()[2] for line in (kit.folder / "run" / "log").read_text().splitlines()]


def test_the_first_runtime_is_the_one_registered_last_unless_it_says_otherwise(kit: Kit) -> None:
    kit.install_runtime("rt-a")
    kit.install_runtime("rt-b")
    host = kit.host()
    runtime = host.runtime()
    assert runtime is not None
    assert runtime.plugin == "rt-b"
    assert host.runtime() is runtime
    assert (host.network(), host.unsealer(), host.admissions()) == (None, None, [])


def test_call_order_is_pluggys(kit: Kit) -> None:
    """Last registered first, ``tryfirst`` before all, ``trylast`` after all."""
    for name, options in (("a", "tryfirst=True"), ("b", ""), ("c", ""), ("d", "trylast=True")):
        hook = f"@hookimpl({options})\ndef edgeagent_admission(ctx):\n    return None\n"
        kit.install(name, HEADER + INFO.format(name=name) + hook)
    assert [one.plugin for one in kit.host().admissions()] == ["a", "c", "b", "d"]


def test_a_hook_that_returns_none_is_a_fault(kit: Kit) -> None:
    kit.install(
        "none", HEADER + INFO.format(name="none") + "@hookimpl\ndef edgeagent_node_facts(): return None\n"
    )

    async def main() -> None:
        async with stopping(kit.host()) as host:
            with pytest.raises(TemporaryError, match="edgeagent_node_facts answered with None"):
                await host.node_facts()[0].facts()

    asyncio.run(main())


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_call_not_of_the_agent(kit: Kit) -> None:
    kit.install_runtime()
    (kit.folder / "run").write_text("a file in the way")

    async def main() -> None:
        async with stopping(kit.host()) as host:
            runtime = host.runtime()
            assert runtime is not None
            with pytest.raises(TemporaryError, match="NotADirectoryError"):
                await runtime.info()
            (kit.folder / "run").unlink()
            await runtime.info()

    asyncio.run(main())


def test_backoff_grows_up_to_its_ceiling_and_one_answer_ends_it(kit: Kit) -> None:
    kit.install_runtime()

    async def main() -> None:
        async with stopping(kit.host()) as host:
            runtime = host.runtime()
            assert runtime is not None
            delays: list[float] = []
            for _ in range(2):
                with pytest.raises(TemporaryError):
                    await runtime.pull_image("bug", None)
            for _ in range(40):
                with pytest.raises(TemporaryError, match="bug"):
                    await runtime.pull_image("bug", None)
                with pytest.raises(TemporaryError) as refused:
                    await runtime.info()
                assert refused.value.delay is not None
                delays.append(refused.value.delay)
                kit.clock.advance(refused.value.delay)
            for number, delay in enumerate(delays):
                assert 0 < delay <= min(2.0**number, BACKOFF_CEILING_SECONDS)
            assert max(delays) > BACKOFF_CEILING_SECONDS / 2
            assert len({round(delay, 3) for delay in delays}) > 30, "full jitter"
            with pytest.raises(TemporaryError, match="no registry"):
                await runtime.pull_image("temporary", None)
            assert statuses(host)["rt"].state == "Loaded"
            await runtime.info()
            assert statuses(host)["rt"].state == "Running"

    asyncio.run(main())


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_services_start_and_stop_in_reverse_order(kit: Kit, isolation: str) -> None:
    for name in ("a", "b", "c"):
        _install(kit, name, isolation=isolation, idle_seconds=0.05)

    async def main() -> None:
        host = kit.host()
        async with stopping(host):
            await host.start()
            await wait_for_async(lambda: len(_said(kit)) == 3, what="the services to start")
            assert sorted(_said(kit)) == ["start a", "start b", "start c"]
            await wait_for_async(lambda: {one.state for one in statuses(host).values()} == {"Running"})
        assert _said(kit)[3:] == ["stop c", "stop b", "stop a"]
        assert len(set(_pids(kit))) == (1 if isolation == "thread" else 3), "a service keeps its child"
        assert {one.state for one in statuses(host).values()} == {"Stopped"}
        await host.stop()

    asyncio.run(main())


def test_a_service_that_fails_is_stopped_and_tried_again_after_its_delay(kit: Kit) -> None:
    _install(kit, "a", "temporary")

    async def main() -> None:
        async with stopping(kit.host()) as host:
            await host.start()
            await wait_for_async(lambda: kit.clock.sleeps, what="the pause")
            assert _said(kit) == ["start a", "stop a"]
            assert kit.clock.sleeps == [40.0]
            (kit.folder / "run" / "mode-a").write_text("")
            kit.clock.advance(40.0)
            await wait_for_async(lambda: statuses(host)["a"].state == "Running", what="the second start")
        assert _said(kit) == ["start a", "stop a", "start a", "stop a"]

    asyncio.run(main())


def test_a_service_that_raises_backs_off_with_jitter(kit: Kit) -> None:
    _install(kit, "a", "bug")

    async def main() -> None:
        async with stopping(kit.host()) as host:
            await host.start()
            for number in range(1, 12):
                await _pauses(kit, number)
                kit.clock.advance(kit.clock.sleeps[-1])
            assert statuses(host)["a"].state == "Backoff"
            assert "RuntimeError: bug" in statuses(host)["a"].reason
            assert max(kit.clock.sleeps) <= BACKOFF_CEILING_SECONDS

    asyncio.run(main())


def test_a_service_that_can_never_start_is_failed_and_not_tried_again(kit: Kit) -> None:
    _install(kit, "a", "permanent")

    async def main() -> None:
        async with stopping(kit.host()) as host:
            await host.start()
            await wait_for_async(lambda: statuses(host)["a"].state == "Failed", what="the failure")
            assert statuses(host)["a"].reason == "never"
            assert _said(kit) == ["start a", "stop a"]
            assert not kit.clock.sleeps

    asyncio.run(main())


def test_a_service_whose_process_dies_is_started_again(kit: Kit) -> None:
    _install(kit, "a", isolation="process", idle_seconds=0.05)

    async def main() -> None:
        async with stopping(kit.host()) as host:
            await host.start()
            await wait_for_async(lambda: statuses(host)["a"].state == "Running", what="the start")
            os.kill(child_pid(host, "a"), signal.SIGKILL)
            await wait_for_async(lambda: kit.clock.sleeps, what="the pause")
            kit.clock.advance(1.0)
            await wait_for_async(lambda: _said(kit) == ["start a", "start a"], what="the second start")
            await wait_for_async(lambda: statuses(host)["a"].busy == 0, what="its end")
        assert _said(kit) == ["start a", "start a", "stop a"]
        assert len(set(_pids(kit))) == 2

    asyncio.run(main())
