"""StandIn: in place of the plugin host, a fake that answers after some turns of the loop, or when let."""

import asyncio
from collections.abc import Callable

from edgeagent.api.descriptors import release
from edgeagent.node.plugins.faults import error_of, failure_of


class _Health:
    state = "Running"


class _Lane:
    def __init__(self) -> None:
        self.warmed = 0

    def warm(self) -> None:
        self.warmed += 1


class StandIn:
    """In place of a hosted plugin: calls reach ``target`` after ``latency()`` turns of the loop.

    ``hold`` names a method whose calls wait until ``release``. ``most`` is how many were under way at once.
    """

    def __init__(self, targets: dict[str, object], latency: Callable[[], int] = lambda: 1) -> None:
        self.name = "fake"
        self.health = _Health()
        self.lane = _Lane()
        self._asked = 0
        self._seen = 0
        self.under_way = 0
        self.most = 0
        self.in_plugin = 0
        self.held: list[Callable[[], None]] = []
        self.hold = ""
        self._targets = targets
        self._latency = latency

    async def call(self, hook: str, method: str, args: tuple[object, ...] = (), *, deadline: float) -> object:
        """The method's answer, or its error as the host would raise it."""
        del deadline
        self._asked += 1
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.in_plugin += 1
        self.most = max(self.most, self.in_plugin)
        if method == self.hold:
            self.held.append(lambda: self._turn(0, hook, method, args, future))
        else:
            self.under_way += 1
            self._turn(self._latency(), hook, method, args, future)
        return await future

    def busy(self) -> bool:
        """Whether calls are under way, or were made since this was asked last."""
        seen, self._seen = self._seen, self._asked
        return self.under_way > 0 or seen != self._asked

    def release(self) -> None:
        """Let what is held go on."""
        self.hold, held = "", self.held
        self.held = []
        for go_on in held:
            self.under_way += 1
            go_on()

    def _turn(
        self, left: int, hook: str, method: str, args: tuple[object, ...], future: "asyncio.Future[object]"
    ) -> None:
        if left > 0:
            asyncio.get_running_loop().call_soon(self._turn, left - 1, hook, method, args, future)
            return
        self.under_way -= 1
        self.in_plugin -= 1
        try:
            result = getattr(self._targets[hook], method)(*args)
        except Exception as error:
            if not future.done():
                future.set_exception(error_of(failure_of(error)))
        else:
            if future.done():
                release(result)
            else:
                future.set_result(result)
