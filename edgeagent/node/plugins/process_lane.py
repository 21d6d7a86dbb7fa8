"""ProcessLane: a plugin's code in a child that lives only while there is something to do.

The child is started by a call (or by ``warm``) and let go after ``idle_seconds`` without one. A call past
its deadline costs the child its life, and the next call starts a new one.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable

import msgspec

from edgeagent.api.descriptors import NO_DESCRIPTOR, DescriptorHolder, release
from edgeagent.api.errors import PermanentError
from edgeagent.api.plugin import LaneSpec
from edgeagent.node.plugins.child import LaneChild
from edgeagent.node.plugins.contract import result_decoder
from edgeagent.node.plugins.faults import Failure, LaneInterrupted, PluginFault
from edgeagent.node.plugins.frames import Answer, Broken, FrameError, Hello, Ready, Reply, Request, frame
from edgeagent.node.plugins.lane import Call, QueuedLane
from edgeagent.node.plugins.target import Place

log = logging.getLogger(__name__)


class ProcessLane(QueuedLane):
    """One child at a time; ``on_lost`` is called when it ends while it was held."""

    def __init__(
        self,
        plugin: str,
        spec: LaneSpec,
        *,
        entry_point: str,
        place: Place,
        section: dict[str, object],
        on_lost: Callable[[str], None],
    ) -> None:
        super().__init__(plugin, spec)
        self._entry_point = entry_point
        self._place = place
        self._section = section
        self._on_lost = on_lost
        self._child: LaneChild | None = None
        self._ready = False
        self._ending: set[LaneChild] = set()
        self._held = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._last_id = 0
        self._calls: dict[int, Call] = {}

    @property
    def alive(self) -> bool:
        """Whether there is a child, and with it what the plugin made."""
        return self._child is not None

    @property
    def pid(self) -> int:
        """The child's process id, 0 where there is none."""
        return self._child.pid if self._child is not None else 0

    def warm(self) -> None:
        """Start the child if there is none. A failure to do so is left for the call to meet."""
        if self._child is None and not self.stopped:
            try:
                self._start()
            except (OSError, FrameError, TypeError, OverflowError, ValueError) as error:
                log.warning("plugin %s: %s", self.plugin, error)
                return
        self._rest()

    def hold(self, held: bool) -> None:
        """See ``Lane``: a service lives in the child, so the child stays."""
        self._held = held
        self._rest()

    def begin(self, call: Call) -> None:
        """Send ``call`` to the child."""
        self._stay()
        self._last_id += 1
        try:
            args = msgspec.Raw(msgspec.msgpack.encode(call.args))
            data = frame(Request(self._last_id, call.hook, call.method, args))
        except (FrameError, TypeError, OverflowError, ValueError, RecursionError) as error:
            text = f"the arguments of {call.method} cannot be sent to plugin {self.plugin}: {error}"
            self.settle(call, error=PermanentError(text, reason="BadArguments"))
            self._rest()
            return
        try:
            child = self._child or self._start()
        except (OSError, FrameError, TypeError, OverflowError, ValueError) as error:
            text = f"no process can be started for plugin {self.plugin}: {error}"
            self.settle(call, error=PluginFault(text, reason="LaneUnavailable"))
            return
        self._calls[self._last_id] = call
        child.send(data)

    def _start(self) -> LaneChild:
        hello = Hello(
            plugin=self.plugin,
            entry_point=self._entry_point,
            workers=self.spec.workers,
            sys_path=[str(entry) for entry in sys.path],
            python_path=os.environ.get("PYTHONPATH"),
            place=self._place,
            section=self._section,
        )
        data = frame(hello)
        self._ready = False
        child = self._child = LaneChild(self._replied, self._ended)
        child.send(data)
        return child

    def _replied(self, child: LaneChild, reply: Reply, descriptor: int) -> None:
        handed = DescriptorHolder(descriptor=descriptor)
        if child is not self._child:
            release(handed)
            return
        if isinstance(reply, Ready):
            self._ready = True
            return
        if isinstance(reply, Broken):
            self._broken(child, reply.failure)
            return
        call = self._calls.pop(reply.id, None)
        if call is None:
            release(handed)
            self._flooded(child)
        elif isinstance(reply, Answer):
            self._answered(call, reply.value, handed)
        else:
            self.fail(call, reply.failure)
        self._rest()

    def _answered(self, call: Call, value: msgspec.Raw, handed: DescriptorHolder) -> None:
        try:
            result = result_decoder(call.hook, call.method).decode(value)
            if isinstance(result, DescriptorHolder):
                # The number in it is the child's.
                result = msgspec.structs.replace(result, descriptor=handed.descriptor)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            release(handed)
            self.fail(call, Failure("fault", f"{call.method} answered with {error}", "WrongAnswer"))
            return
        if not isinstance(result, DescriptorHolder):
            release(handed)
        elif result.descriptor == NO_DESCRIPTOR:
            text = f"{call.method} answered without a file descriptor"
            self.fail(call, Failure("fault", text, "WrongAnswer"))
            return
        self.settle(call, result)

    def _flooded(self, child: LaneChild) -> None:
        self._drop(child)
        child.kill("sent an answer that nobody asked for")
        self._fail_running(f"the process of plugin {self.plugin} sent an answer that nobody asked for")

    def _broken(self, child: LaneChild, failure: Failure) -> None:
        """The plugin does not load in the child, so no call can be served: not those that wait either."""
        self._drop(child)
        child.close()
        calls = [*self.running, *self.waiting]
        self.waiting.clear()
        self._calls.clear()
        text = f"plugin {self.plugin} cannot be loaded in its process: {failure.message}"
        first = Failure("fault", text, failure.reason, None, failure.traceback)
        for number, call in enumerate(calls):
            if number == 0:
                self.fail(call, first)
            else:
                self.settle(call, error=LaneInterrupted(text, reason=failure.reason))
        self._lost(text)

    def _ended(self, child: LaneChild, how: str) -> None:
        self._ending.discard(child)
        if child is not self._child:
            return
        loaded = self._ready
        self._drop(child)
        self._ending.discard(child)
        text = f"the process of plugin {self.plugin} {how}"
        log.warning("%s", text)
        waiting: list[Call] = []
        if not loaded:
            waiting = list(self.waiting)
            self.waiting.clear()
        self._fail_running(text)
        for call in waiting:
            self.settle(call, error=LaneInterrupted(text, reason="LaneDied"))
        self._lost(text)

    def _fail_running(self, text: str) -> None:
        """Nobody knows which call brought the child down: one counts against the plugin, the rest do not."""
        calls = list(self._calls.values())
        self._calls.clear()
        for number, call in enumerate(calls):
            kind = PluginFault if number == 0 else LaneInterrupted
            self.settle(call, error=kind(text, reason="LaneDied"))

    def expired(self, call: Call) -> None:
        """Kill the child: the others that run in it go down with this call, and may be made again."""
        child = self._child
        calls = [other for other in self._calls.values() if other is not call]
        self._calls.clear()
        if child is not None:
            self._drop(child)
            child.kill(f"hung in {call.method}")
        log.warning("plugin %s hangs in %s.%s: its process is killed", self.plugin, call.hook, call.method)
        self.settle(call, error=self.overdue(call))
        text = f"the process of plugin {self.plugin} was killed, for {call.method} hung in it"
        for other in calls:
            self.settle(other, error=LaneInterrupted(text, reason="LaneDied"))
        self._lost(text)

    def _drop(self, child: LaneChild) -> None:
        """``child`` takes no more calls, and is watched until it has ended."""
        self._child = None
        self._ending.add(child)
        self._stay()

    def _lost(self, why: str) -> None:
        if self._held and not self.stopped:
            self._on_lost(why)

    def _stay(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _rest(self) -> None:
        """With nothing to do, let the child go after a while."""
        self._stay()
        if self._child is None or self._held or self.running or self.waiting:
            return
        loop = asyncio.get_running_loop()
        self._idle_timer = loop.call_later(self.spec.idle_seconds, self._retire)

    def _retire(self) -> None:
        self._idle_timer = None
        if (child := self._child) is not None:
            self._drop(child)
            child.close()

    async def stop(self) -> None:
        """Let the child go, and return once it has ended, by force if need be."""
        self.stopped = True
        self._calls.clear()
        self._retire()
        self._stay()
        self.interrupt_all(f"plugin {self.plugin} is stopped", "PluginStopped")
        if self._ending:
            await asyncio.wait([child.ended for child in self._ending])
