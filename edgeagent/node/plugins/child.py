"""The agent's side of one lane child: starting it, frames to and from it, and news of its end.

Event-driven: the socket and the child's pidfd are watched by the loop, nothing is polled.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from edgeagent.api.descriptors import NO_DESCRIPTOR
from edgeagent.node.plugins.frames import Answer, FrameError, FrameReader, Reply

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""A child whose socket is closed has this long to end by itself."""
_READ_BYTES = 256 * 1024
_ROOT = str(Path(__file__).resolve().parents[3])
_DECODER = msgspec.msgpack.Decoder(Reply)
_HANDED_AT_ONCE = 16
"""Descriptors that one read may bring; the kernel brings one, with the message that it was sent in."""
_MAX_UNCLAIMED = 64


def _receive_with_descriptors(connection: socket.socket) -> tuple[bytes, Sequence[int], int]:
    """Bytes, what was handed over with them, and the flags of recvmsg(2); no child inherits a descriptor.

    Not ``socket.recv_fds``, which in Python 3.11 does not pass the flag on.
    """
    found = array("i")
    space = socket.CMSG_SPACE(_HANDED_AT_ONCE * found.itemsize)
    data, ancillary, flags, _ = connection.recvmsg(_READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, packed in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(packed[: len(packed) - len(packed) % found.itemsize])
    return data, found, flags


class Handed:
    """Descriptors that came from a child, in the order in which their answers come."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()

    def add(self, descriptors: Iterable[int]) -> None:
        """They are this process's now."""
        self._waiting.extend(descriptors)

    @property
    def too_many(self) -> bool:
        """Whether more came than answers that could claim them."""
        return len(self._waiting) > _MAX_UNCLAIMED

    def take(self) -> int:
        """The one that belongs to the answer just read. FrameError where none came with it."""
        if not self._waiting:
            raise FrameError("an answer that should have come with a file descriptor")
        return self._waiting.popleft()

    def close(self) -> None:
        """Close those that no answer claimed."""
        while self._waiting:
            os.close(self._waiting.popleft())


class LaneChild:
    """One running child. ``on_end(child, how)`` is called once, when it has ended and was reaped.

    ``on_reply(child, reply, descriptor)``: a descriptor that came with the reply is its receiver's.
    """

    def __init__(
        self,
        on_reply: "Callable[[LaneChild, Reply, int], None]",
        on_end: "Callable[[LaneChild, str], None]",
    ) -> None:
        self._on_reply = on_reply
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._handed = Handed()
        self._outgoing = bytearray()
        self._killed_for = ""
        self._timer: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            # -P: the agent's working directory is no place to import from.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "edgeagent.node.plugins.lane_worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(),),
                process_group=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([_ROOT, *filter(None, map(str, sys.path))])},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket: socket.socket | None = ours
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            ours.close()
            self._process.kill()
            self._process.wait()
            raise
        self._loop.add_reader(self._pidfd, self._reap)
        self._loop.add_reader(ours, self._receive)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        """Queue ``data`` for the child; lost where the child is ending."""
        if self._socket is None:
            return
        self._outgoing += data
        self._flush()

    def _flush(self) -> None:
        if self._socket is None:
            return
        try:
            sent = self._socket.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the child is ending, as its pidfd will say
        del self._outgoing[:sent]
        if self._outgoing:
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> bool:
        """Take in what has come; whether there may be more."""
        if self._socket is None:
            return False
        try:
            data, descriptors, flags = _receive_with_descriptors(self._socket)
        except BlockingIOError:
            return False
        except OSError as error:
            log.debug("child %d: %s", self.pid, error)
            data, descriptors, flags = b"", [], 0
        self._handed.add(descriptors)
        if flags & socket.MSG_CTRUNC:
            # Most likely no descriptor is free in this process: the answers' order is lost with it.
            self.kill("handed over a file descriptor that could not be taken")
            return False
        if not data:
            self.close()
            return False
        try:
            for payload in self._reader.feed(data):
                reply = _DECODER.decode(payload)
                with_one = isinstance(reply, Answer) and reply.with_descriptor
                self._on_reply(self, reply, self._handed.take() if with_one else NO_DESCRIPTOR)
        except (FrameError, msgspec.MsgspecError) as error:
            self.kill(f"sent what is no answer: {error}")
        if self._handed.too_many:
            self.kill("hands over file descriptors that belong to no answer")
        return True

    def close(self) -> None:
        """Let the child end by itself: it sees its socket close. One that does not is killed."""
        self._disconnect()
        if not self.ended.done() and self._timer is None:
            self._timer = self._loop.call_later(CLOSE_SECONDS, self.kill, "did not end by itself")

    def kill(self, why: str) -> None:
        """End the child now, with SIGKILL; its answers are no longer listened to."""
        self._disconnect()
        self._killed_for = self._killed_for or why
        self._process.kill()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
            self._outgoing.clear()
            self._handed.close()

    def _reap(self) -> None:
        while self._receive():
            pass  # what it said before it ended
        self._disconnect()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._process.wait()
        if self._timer is not None:
            self._timer.cancel()
        self.ended.set_result(None)
        self._on_end(self, self._killed_for or _how(code))


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"
