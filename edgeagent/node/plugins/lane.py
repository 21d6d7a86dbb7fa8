"""Lanes: where a plugin's code runs, a few calls at once, never on the loop thread.

``QueuedLane`` holds what all lanes share: the bounded queue, the deadline of each call, and the news of how
it ended. ``ThreadLane`` runs calls on threads of the agent. A deadline counts from the moment the call begins
to run, for a call that waits behind others does not hang.
"""

import asyncio
import logging
import threading
from collections import deque
from queue import SimpleQueue
from typing import Protocol

import msgspec

from edgeagent.api.descriptors import release
from edgeagent.api.plugin import LaneSpec
from edgeagent.node.plugins.faults import Failure, LaneInterrupted, PluginFault, error_of, failure_of
from edgeagent.node.plugins.target import Targets

log = logging.getLogger(__name__)

MAX_ABANDONED = 3
"""A plugin with so many threads that never came back is not called again until the agent restarts."""
JOIN_SECONDS = 1.0


class LaneLoad(msgspec.Struct, frozen=True):
    """Calls that wait, calls that run, and threads that were given up because their call hangs."""

    queued: int = 0
    busy: int = 0
    abandoned: int = 0


class Lane(Protocol):
    """Where one plugin's code runs. Used on the loop thread only."""

    @property
    def alive(self) -> bool:
        """Whether what the plugin's hooks returned still exists (or can still come to be) in this lane."""

    async def call(self, hook: str, method: str, args: tuple[object, ...] = (), *, deadline: float) -> object:
        """Call ``method`` of what the plugin's ``hook`` returned; it may run for ``deadline`` seconds.

        Raises the plugin's own TemporaryError or PermanentError, PluginFault or LaneInterrupted.
        """

    def load(self) -> LaneLoad:
        """How busy the lane is."""

    def warm(self) -> None:
        """Make ready for a call that is about to come."""

    def hold(self, held: bool) -> None:
        """Keep the lane from ending for idleness, or no longer."""

    async def stop(self) -> None:
        """End the lane; calls that wait or run fail with LaneInterrupted."""


class Call:
    """One call on its way through a lane."""

    __slots__ = ("args", "deadline", "future", "hook", "method", "timer")

    def __init__(self, hook: str, method: str, args: tuple[object, ...], deadline: float) -> None:
        self.hook = hook
        self.method = method
        self.args = args
        self.deadline = deadline
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None


class QueuedLane:
    """The bounded queue before the workers. A subclass begins calls and settles each of them once."""

    def __init__(self, plugin: str, spec: LaneSpec) -> None:
        self.plugin = plugin
        self.spec = spec
        self.stopped = False
        self.waiting: deque[Call] = deque()
        self.running: set[Call] = set()
        self._pumping = False

    async def call(self, hook: str, method: str, args: tuple[object, ...] = (), *, deadline: float) -> object:
        """See ``Lane``. A call beyond the queue's bound is refused at once."""
        if self.stopped:
            raise LaneInterrupted(f"plugin {self.plugin} is stopped", reason="PluginStopped")
        if len(self.running) >= self.spec.workers and len(self.waiting) >= self.spec.queue:
            load = f"{len(self.running)} calls run and {len(self.waiting)} wait"
            raise PluginFault(f"plugin {self.plugin} is too busy: {load}", reason="LaneFull")
        call = Call(hook, method, args, deadline)
        self.waiting.append(call)
        self.pump()
        try:
            return await call.future
        except asyncio.CancelledError:
            if call in self.waiting:
                self.waiting.remove(call)
            if call.future.done() and not call.future.cancelled() and call.future.exception() is None:
                release(call.future.result())  # it came together with the cancellation
            raise

    def load(self) -> LaneLoad:
        """How busy the lane is."""
        return LaneLoad(queued=len(self.waiting), busy=len(self.running))

    def pump(self) -> None:
        """Begin waiting calls while there are free workers."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.waiting and len(self.running) < self.spec.workers and not self.stopped:
                call = self.waiting.popleft()
                if call.future.done():
                    continue
                self.running.add(call)
                loop = call.future.get_loop()
                call.timer = loop.call_later(call.deadline, self.expired, call)
                self.begin(call)
        finally:
            self._pumping = False

    def settle(self, call: Call, value: object = None, error: Exception | None = None) -> None:
        """``call`` is over: tell the caller, if it still waits, and take the next one."""
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        self.running.discard(call)
        if call.future.done():
            release(value)  # the caller has given up
        elif error is None:
            call.future.set_result(value)
        else:
            call.future.set_exception(error)
        self.pump()

    def fail(self, call: Call, failure: Failure) -> None:
        """``settle`` with what the plugin raised; a traceback goes to the log."""
        if failure.traceback:
            lines = failure.traceback.rstrip()
            log.error("plugin %s failed in %s.%s:\n%s", self.plugin, call.hook, call.method, lines)
        self.settle(call, error=error_of(failure))

    def overdue(self, call: Call) -> PluginFault:
        """The error of a call that ran past its deadline."""
        text = f"plugin {self.plugin} did not answer {call.method} within {call.deadline:g} s"
        return PluginFault(text, reason="DeadlineExceeded")

    def interrupt_all(self, why: str, reason: str) -> None:
        """Fail every call that waits or runs."""
        calls = [*self.running, *self.waiting]
        self.waiting.clear()
        for call in calls:
            self.settle(call, error=LaneInterrupted(why, reason=reason))

    def begin(self, call: Call) -> None:
        """Run ``call`` on a free worker; ``settle`` it then or later."""
        raise NotImplementedError

    def expired(self, call: Call) -> None:
        """``call`` ran past its deadline."""
        raise NotImplementedError


class _Worker(threading.Thread):
    """One thread of a lane; ends at the first None."""

    def __init__(self, lane: "ThreadLane", number: int) -> None:
        super().__init__(name=f"lane-{lane.plugin}-{number}", daemon=True)
        self._lane = lane
        self.inbox: SimpleQueue[Call | None] = SimpleQueue()

    def run(self) -> None:
        while (call := self.inbox.get()) is not None:
            value: object = None
            failure: Failure | None = None
            try:
                value = self._lane.targets.invoke(call.hook, call.method, call.args)
            except BaseException as error:  # SystemExit too: a plugin may not end its lane
                failure = failure_of(error)
            try:
                call.future.get_loop().call_soon_threadsafe(self._lane.done, self, call, value, failure)
            except RuntimeError:
                release(value)
                return  # the loop is closed: the agent has gone
            del call, value, failure  # an idle thread holds no answer


class ThreadLane(QueuedLane):
    """Runs calls on daemon threads, made when first needed. A thread that hangs is given up and replaced."""

    def __init__(self, plugin: str, spec: LaneSpec, targets: Targets) -> None:
        super().__init__(plugin, spec)
        self.targets = targets
        self._idle: list[_Worker] = []
        self._busy: dict[Call, _Worker] = {}
        self._abandoned: set[_Worker] = set()
        self._made = 0

    @property
    def alive(self) -> bool:
        """A thread lane keeps what the plugin made for as long as the agent runs."""
        return not self.stopped

    def load(self) -> LaneLoad:
        """Adds the threads that hang; one that comes back after all is no longer counted."""
        return LaneLoad(queued=len(self.waiting), busy=len(self.running), abandoned=len(self._abandoned))

    def warm(self) -> None:
        """A thread is made fast enough."""

    def hold(self, held: bool) -> None:
        """A thread lane never ends for idleness."""

    def begin(self, call: Call) -> None:
        """Hand ``call`` to an idle thread, or to a new one."""
        if self._idle:
            worker = self._idle.pop()
        else:
            self._made += 1
            worker = _Worker(self, self._made)
            try:
                worker.start()
            except RuntimeError as error:
                text = f"no thread can be started for plugin {self.plugin}: {error}"
                self.settle(call, error=PluginFault(text, reason="LaneUnavailable"))
                return
        self._busy[call] = worker
        worker.inbox.put(call)

    def done(self, worker: _Worker, call: Call, value: object, failure: Failure | None) -> None:
        """A thread has finished ``call``; on the loop thread."""
        if self._busy.pop(call, None) is None:
            self._abandoned.discard(worker)
            release(value)
            return
        if not self.stopped:
            self._idle.append(worker)
        if failure is not None:
            self.fail(call, failure)
        else:
            self.settle(call, value)

    def expired(self, call: Call) -> None:
        """Give the thread up: nothing can end it."""
        worker = self._busy.pop(call)
        self._abandoned.add(worker)
        worker.inbox.put(None)
        log.warning("plugin %s hangs in %s.%s: its thread is given up", self.plugin, call.hook, call.method)
        self.settle(call, error=self.overdue(call))

    async def stop(self) -> None:
        """End idle threads; one that still runs a call ends when it comes back, if it does."""
        self.stopped = True
        idle, self._idle = self._idle, []
        for worker in [*idle, *self._busy.values()]:
            worker.inbox.put(None)
        self.interrupt_all(f"plugin {self.plugin} is stopped", "PluginStopped")
        for worker in idle:
            worker.join(JOIN_SECONDS)
