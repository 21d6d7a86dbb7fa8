"""The child of a process lane: ``python -m edgeagent.node.plugins.lane_worker FD``.

Loads one plugin and serves calls until the socket closes, which is also how it learns that the agent has
died. The main thread reads, ``workers`` threads call. Imports neither asyncio nor more of the agent than
the contract, for its start is part of the first call.
"""

import contextlib
import os
import signal
import sys
import threading
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import msgspec

from edgeagent.api.descriptors import NO_DESCRIPTOR, DescriptorHolder, release
from edgeagent.api.errors import InvalidObjectError
from edgeagent.node.plugins.contract import args_decoder
from edgeagent.node.plugins.faults import Failure, failure_of
from edgeagent.node.plugins.frames import (
    Answer,
    Broken,
    FrameError,
    FrameReader,
    Hello,
    Ready,
    Refusal,
    Reply,
    Request,
    frame,
)
from edgeagent.node.plugins.target import Targets, config_schema, import_entry_point, new_manager, register

_READ_BYTES = 256 * 1024


class Connection:
    """The blocking end of the socket pair, by plain reads and writes: no socket module is needed."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._reader = FrameReader()
        self._ready: list[bytes] = []
        self._sending = threading.Lock()

    def receive(self) -> bytes | None:
        """The next frame's payload, or None at the end."""
        while not self._ready:
            if not (data := os.read(self._descriptor, _READ_BYTES)):
                return None
            self._ready = list(self._reader.feed(data))
        return self._ready.pop(0)

    def send(self, reply: Reply, handed: int = NO_DESCRIPTOR) -> None:
        """Send ``reply`` whole, with a descriptor; FrameError, and nothing sent, where it is too large."""
        data = memoryview(frame(reply))
        with self._sending:
            if handed != NO_DESCRIPTOR:
                data = data[self._hand_over(data, handed) :]
            while data:
                data = data[os.write(self._descriptor, data) :]

    def _hand_over(self, data: memoryview, handed: int) -> int:
        """Send what goes at once, and ``handed`` with its first byte; how much that was."""
        import socket  # the plugin that has a socket to hand over has imported it already

        ours = socket.socket(fileno=self._descriptor)
        try:
            return socket.send_fds(ours, [data], [handed])
        finally:
            ours.detach()


def load(hello: Hello) -> Targets:
    """Import the plugin and validate its config, as the agent did at discovery."""
    from edgeagent.api.objects.decode import convert

    hooks = register(new_manager(), import_entry_point(hello.entry_point), hello.plugin)
    schema = config_schema(hooks)
    try:
        config = convert(hello.section, schema)
    except InvalidObjectError as error:
        raise error.within(f"plugins.{hello.plugin}") from None
    return Targets(hooks, lambda: hello.place.context(config))


def serve_one(targets: Targets, request: Request, connection: Connection) -> None:
    """Make one call and send the answer; whatever it raises is one. OSError where the agent is gone."""
    value: object = None
    try:
        try:
            args = args_decoder(request.hook, request.method).decode(request.args)
            value = targets.invoke(request.hook, request.method, args)
            encoded = msgspec.Raw(msgspec.msgpack.encode(value))
        except BaseException as error:  # SystemExit too: a plugin may not end the child
            connection.send(Refusal(request.id, failure_of(error)))
            return
        handed = value.descriptor if isinstance(value, DescriptorHolder) else NO_DESCRIPTOR
        try:
            connection.send(Answer(request.id, encoded, handed != NO_DESCRIPTOR), handed)
        except FrameError as error:
            text = f"{request.method} answered with {error}"
            connection.send(Refusal(request.id, Failure("fault", text, "WrongAnswer")))
    finally:
        release(value)  # the agent has its own by now


def _work(connection: Connection, targets: Targets, requests: "SimpleQueue[Request]") -> None:
    try:
        while True:
            request = requests.get()
            serve_one(targets, request, connection)
            del request
    except OSError:
        _end(1)  # the agent is gone: there is nobody to tell


def _end(code: int) -> NoReturn:
    """Leave at once, whatever threads the plugin has."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or never there
            stream.flush()
    os._exit(code)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The agent decides when the child ends. Programs run by it do not inherit a handler, unlike SIG_IGN."""


def main() -> None:
    """Serve calls on the descriptor named by the first argument."""
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore)
    connection = Connection(int(sys.argv[1]))
    if (first := connection.receive()) is None:
        _end(0)
    hello = msgspec.msgpack.decode(first, type=Hello)
    sys.path[:] = hello.sys_path
    if hello.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = hello.python_path
    try:
        targets = load(hello)
    except BaseException as error:
        connection.send(Broken(failure_of(error)))
        _end(1)
    requests: SimpleQueue[Request] = SimpleQueue()
    for _ in range(hello.workers):
        threading.Thread(target=_work, args=(connection, targets, requests), daemon=True).start()
    connection.send(Ready())
    # The child was started for a call that is on its way: what the hooks import is there when it comes.
    threading.Thread(target=targets.prepare, daemon=True).start()
    decoder = msgspec.msgpack.Decoder(Request)
    while (payload := connection.receive()) is not None:
        requests.put(decoder.decode(payload))
    _end(0)


if __name__ == "__main__":
    try:
        main()
    except OSError:
        _end(1)
