"""Lifecycle hooks: how many run at once, and for how long each may.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

import asyncio

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.objects.probe import LifecycleHandler
from edgeagent.node.patience import within
from edgeagent.node.pods.means import Limits
from edgeagent.node.pods.probes import ProbeTarget, perform

POST_START_SECONDS = 24 * 3600.0
"""Kubernetes sets no limit; a hook that hangs for a day is taken for one that failed."""
HOOKS_OF_A_POD = 2


class PreStop(msgspec.Struct, frozen=True):
    """How a preStop hook went: why it failed, or None, and the ``seconds`` that it ran."""

    problem: str | None
    seconds: float


class Hooks:
    """The hooks of one pod.

    Each command occupies one of the runtime's workers, for hours if it likes: so a pod gets but two, and no
    pod's commands can take all that the node has.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._of_pod = asyncio.Semaphore(HOOKS_OF_A_POD)

    async def post_start(self, hook: LifecycleHandler, target: ProbeTarget) -> str | None:
        """Run the hook; why it failed, or None. The wait for its turn does not count."""
        if hook.exec is None:
            return await self._perform(hook, target, POST_START_SECONDS)
        async with self._of_pod, self._limits.hooks:
            return await self._perform(hook, target, POST_START_SECONDS)

    async def pre_stop(self, hook: LifecycleHandler, target: ProbeTarget, seconds: float) -> PreStop:
        """Run the hook for at most ``seconds``. The wait for its turn may take as long, not counted."""
        if hook.exec is None:
            return await self._timed(hook, target, seconds)
        turn = asyncio.Event()

        async def in_turn() -> PreStop:
            async with self._of_pod, self._limits.hooks:
                turn.set()
                return await self._timed(hook, target, seconds)

        task = asyncio.ensure_future(in_turn())
        try:
            if not await within(self._clock, seconds, turn.wait()):
                return PreStop(f"other hooks ran for {seconds:.0f}s, it had no turn", 0.0)
            return await task
        finally:
            task.cancel()

    async def _timed(self, hook: LifecycleHandler, target: ProbeTarget, seconds: float) -> PreStop:
        began = self._clock.monotonic()
        problem = await self._perform(hook, target, seconds)
        return PreStop(problem, self._clock.monotonic() - began)

    async def _perform(self, hook: LifecycleHandler, target: ProbeTarget, seconds: float) -> str | None:
        outcome = await perform(hook, target, seconds, sleep=self._clock.sleep)
        return None if outcome.success else outcome.message
