"""A stream of datagrams between two pods, of which each must be answered."""

import threading
from types import TracebackType
from typing import Self

from tests.support.netlab import Lab
from tests.support.netprobe import family_of, socket_of

ANSWER_SECONDS = 3.0


class Stream:
    """Use it as a context: from its beginning to its end a datagram goes out as soon as the last one's answer
    is there. ``lost`` are the numbers of those that none came for; ``wait_for`` many more answers.
    """

    def __init__(self, lab: Lab, namespace: str, address: str, port: int) -> None:
        made = lab.inside(namespace, lambda: socket_of(family_of(address), "UDP"))
        made.settimeout(ANSWER_SECONDS)
        made.connect((address, port))
        self._socket = made
        self._thread = threading.Thread(target=self._run)
        self._ended = False
        self._moved = threading.Condition()
        self.answered = 0
        self.lost: list[int] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(10)
        self.lost.clear()  # of a session's first packets
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._thread.join()
        self._socket.close()

    def wait_for(self, more: int, seconds: float = 30.0) -> None:
        """Until so many more answers have come."""
        with self._moved:
            wanted = self.answered + more
            assert self._moved.wait_for(lambda: self.answered >= wanted, seconds), "the stream has ended"

    def _run(self) -> None:
        number = 0
        while not self._ended:
            number += 1
            if self._ask(b"#%d#" % number):
                with self._moved:
                    self.answered += 1
                    self._moved.notify_all()
            else:
                self.lost.append(number)

    def _ask(self, word: bytes) -> bool:
        try:
            self._socket.send(word)
            while True:
                if word in self._socket.recv(4096):
                    return True
        except (TimeoutError, OSError):
            return False
