"""What an exec and a sleep action come to.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

import asyncio

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.probe import ExecAction, LifecycleHandler, SleepAction
from edgeagent.api.runtime import ExecResult
from edgeagent.node.pods.probes import Outcome, ProbeTarget, perform
from edgeagent.testing.clock import ManualClock


async def answering(result: ExecResult | Exception, timeout: float = 1) -> Outcome:
    asked: list[tuple[list[str], float]] = []

    async def execute(command: list[str], seconds: float) -> ExecResult:
        asked.append((command, seconds))
        if isinstance(result, Exception):
            raise result
        return result

    target = ProbeTarget(Container(name="c", image="i"), "", execute)
    outcome = await perform(LifecycleHandler(exec=ExecAction(command=["a", "b"])), target, timeout)
    assert asked == [(["a", "b"], timeout)]
    return outcome


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (ExecResult(exit_code=0, output=b"noise"), Outcome(True)),
        (ExecResult(exit_code=1), Outcome(False, "exit status 1")),
        (
            ExecResult(exit_code=2, output=b"no\xff\x1b[2J\n"),
            Outcome(False, "exit status 2: no\ufffd\ufffd[2J"),
        ),
        (ExecResult(exit_code=0, timed_out=True), Outcome(False, "command 'a b' timed out after 1s")),
        (PermanentError("no such file", reason="ExecError"), Outcome(False, "no such file")),
        (TemporaryError("runtime is down"), Outcome(False, "runtime is down", unknown=True)),
    ],
)
def test_a_command_is_judged_by_its_exit_status(result: ExecResult | Exception, outcome: Outcome) -> None:
    assert asyncio.run(answering(result)) == outcome


def test_a_message_is_bounded() -> None:
    outcome = asyncio.run(answering(ExecResult(exit_code=1, output=b"x" * 10_240)))
    assert len(outcome.message) == 1024
    assert outcome.message.endswith("…")


async def no_exec(command: list[str], timeout: float) -> ExecResult:
    raise AssertionError("nothing is executed")


@pytest.mark.parametrize(("seconds", "timeout", "success"), [(5, 30, True), (30, 5, False)])
def test_a_sleep_takes_its_seconds_and_no_more_than_the_timeout(
    seconds: int, timeout: float, success: bool
) -> None:
    async def scene() -> None:
        clock = ManualClock()
        target = ProbeTarget(Container(name="c", image="i"), "", no_exec)
        action = LifecycleHandler(sleep=SleepAction(seconds=seconds))
        sleeping = asyncio.create_task(perform(action, target, timeout, sleep=clock.sleep))
        await clock.advance(4)
        assert not sleeping.done()
        await clock.advance(1)
        assert (await sleeping).success is success

    asyncio.run(scene())
