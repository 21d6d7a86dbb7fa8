"""Lifecycle hooks: how many run at once, and for how long each may.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

import asyncio

from edgeagent.api.clock import Clock
from edgeagent.api.objects.probe import LifecycleHandler
from edgeagent.node.pods.means import Limits
from edgeagent.node.pods.patience import within
from edgeagent.node.pods.probes import ProbeTarget, perform

POST_START_SECONDS = 24 * 3600.0
"""Kubernetes sets no limit; a hook that hangs for a day is taken for one that failed."""
PRE_STOPS_OF_A_POD = 2


class Hooks:
    """The hooks of one pod.

    Each command occupies one of the runtime's workers, for hours if it likes: so a pod gets but one for its
    postStart hooks, which Kubernetes runs one after another as well, and two for its preStop hooks.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._post_start = asyncio.Semaphore(1)
        self._pre_stop = asyncio.Semaphore(PRE_STOPS_OF_A_POD)

    async def post_start(self, hook: LifecycleHandler, target: ProbeTarget) -> str | None:
        """Run the hook; why it failed, or None. The wait for its turn does not count."""
        if hook.exec is None:
            return await self._perform(hook, target, POST_START_SECONDS)
        async with self._post_start, self._limits.post_starts:
            return await self._perform(hook, target, POST_START_SECONDS)

    async def pre_stop(self, hook: LifecycleHandler, target: ProbeTarget, seconds: float) -> str | None:
        """Run the hook; why it failed, or None. The wait for its turn is within ``seconds``."""
        if hook.exec is None:
            return await self._perform(hook, target, seconds)
        deadline = self._clock.monotonic() + seconds
        if not await within(self._clock, seconds, self._pre_stop.acquire()):
            return f"other hooks took all of the {seconds:.0f}s"
        try:
            left = deadline - self._clock.monotonic()
            if not await within(self._clock, left, self._limits.pre_stops.acquire()):
                return f"other hooks took all of the {seconds:.0f}s"
            try:
                return await self._perform(hook, target, max(1.0, deadline - self._clock.monotonic()))
            finally:
                self._limits.pre_stops.release()
        finally:
            self._pre_stop.release()

    async def _perform(self, hook: LifecycleHandler, target: ProbeTarget, seconds: float) -> str | None:
        outcome = await perform(hook, target, seconds, sleep=self._clock.sleep)
        return None if outcome.success else outcome.message
