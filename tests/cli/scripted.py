"""A hub that does what a test tells it to, on a real broker: for answers that the real hub never gives."""

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.ca import Authority
from edgeagent.wire.join import BrokerAddress, OperatorFile
from edgeagent.wire.operatorcalls import read_call
from edgeagent.wire.rpc import encode_failure, encode_reply
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig
from edgeagent.wire.topics import Topics

CLUSTER = "test"
USER = "user:tester"
_ISSUED = Authority.create(CLUSTER, SystemClock())[0].operator("tester")


def operator(port: int, *more_ports: int) -> OperatorFile:
    """An operator of a broker on loopback, without TLS."""
    brokers = [BrokerAddress(host="127.0.0.1", port=one, tls=False) for one in (port, *more_ports)]
    return OperatorFile(
        cluster=CLUSTER, user=USER, brokers=brokers, ca="",
        certificate=_ISSUED.certificate, private_key=_ISSUED.key,
    )  # fmt: skip


def write_operator(path: Path, found: OperatorFile) -> Path:
    """The operator file at ``path``, readable by its owner alone."""
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(found))
    return path


class Call:
    """One request, and the means to answer it."""

    def __init__(self, hub: "ScriptedHub", method: str, message: Message) -> None:
        self._hub = hub
        self._message = message
        self.method = method
        request = read_call(message.payload)
        assert (request.method, request.user, request.reply_topic) == (method, USER, message.response_topic)
        self.params: dict[str, Any] = json.loads(bytes(request.params))
        self.target = request.target
        self.correlation = message.correlation

    def reply(self, result: object, *, sequence: int = 0, last: bool = True) -> None:
        """A good answer."""
        self.raw(encode_reply(result, sequence=sequence, last=last))

    def fail(self, error: EdgeAgentError) -> None:
        """A bad one."""
        self.raw(encode_failure(error))

    def raw(self, payload: bytes) -> None:
        """Any bytes."""
        self._hub.publish(self._message.response_topic, payload, self._message.correlation)


class ScriptedHub:
    """Runs on a thread of its own; ``answer`` is called there for every request."""

    def __init__(self, port: int, answer: Callable[[Call], None]) -> None:
        self._port = port
        self._answer = answer
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._queue: asyncio.Queue[tuple[str, bytes, bytes]]
        self._lost: list[str] = []
        self.calls: list[Call] = []
        """Every request so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            self._loop.call_soon_threadsafe(self._stop.set)
            raise AssertionError(f"the scripted hub did not connect: {self._lost}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` on the hub's thread after a pause; from that thread only."""
        self._loop.call_later(seconds, action)

    def soon(self, action: Callable[[], None]) -> None:
        """Call ``action`` on the hub's thread, from any other."""
        self._loop.call_soon_threadsafe(action)

    def methods(self) -> list[str]:
        """The methods asked for so far."""
        return [call.method for call in self.calls]

    def publish(self, topic: str, payload: bytes, correlation: bytes) -> None:
        """Publish in order; from the hub's thread only."""
        self._queue.put_nowait((topic, payload, correlation))

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._queue = asyncio.Queue()
        config = SessionConfig(
            addresses=[BrokerAddress(host="127.0.0.1", port=self._port, tls=False)],
            client_id="scripted-hub",
            reconnect_first=0.1,
            reconnect_ceiling=0.2,
        )
        self._session = MqttSession(
            config,
            clock=SystemClock(),
            rng=random.Random(1),
            on_message=self._on_message,
            on_connect=self._on_connect,
            on_disconnect=self._lost.append,
        )
        running = asyncio.create_task(self._session.run())
        sending = asyncio.create_task(self._send())
        await self._stop.wait()
        for task in (running, sending, *self._tasks):
            task.cancel()
        await asyncio.gather(running, sending, *self._tasks, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            topic, payload, correlation = await self._queue.get()
            with contextlib.suppress(EdgeAgentError):
                await self._session.publish(topic, payload, correlation=correlation)

    def _on_connect(self, connection: Connection) -> None:
        task = asyncio.create_task(self._subscribe())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _subscribe(self) -> None:
        with contextlib.suppress(EdgeAgentError):
            await self._session.subscribe([Topics(CLUSTER).hub_rpc("+", "+")])
            self._ready.set()

    def _on_message(self, message: Message) -> None:
        call = Call(self, message.topic.rsplit("/", 1)[1], message)
        self.calls.append(call)
        self._answer(call)
