"""Keeping one program running: started again with back-off when it ends, and ended with this process."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen, TimeoutExpired

from edgeagent_network.programs import Starter

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.25
CEILING_SECONDS = 30.0
STEADY_SECONDS = 10.0
"""Who ran so long is started again at once, however often it ended before."""
END_SECONDS = 5.0
MAX_SAID = 2_000


class Daemon:
    """A thread starts the program and reads what it writes to standard error. ``ready`` is in the line that
    it writes once it serves; it begins in ``folder``. ``argv`` must have the program end when the thread that
    started it does.
    """

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path,
        ready: bytes,
        start: Starter,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._argv = argv
        self._folder = folder
        self._ready = ready
        self._start = start
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._process: Popen[bytes] | None = None
        self.serving = False
        self.failures = 0  # in a row
        self.said = ""
        self._thread = threading.Thread(target=self._run, name="network-dns", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the program, 0 while it does not run."""
        process = self._process
        return process.pid if process is not None else 0

    def wait_ready(self, seconds: float) -> bool:
        """Whether it serves, for which it has this long, or until it has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self.serving or self.failures > 0, seconds)
            return self.serving

    def end(self) -> None:
        """End the program, and return once it has ended."""
        self._ending.set()
        with self._changed:
            if self._process is not None:
                self._process.terminate()
        self._thread.join(END_SECONDS)
        with self._changed:
            if self._process is not None:
                self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        delay = FIRST_SECONDS
        while not self._ending.is_set():
            began = self._monotonic()
            self._once()
            if self._ending.is_set():
                return
            steady = self._monotonic() - began >= STEADY_SECONDS
            with self._changed:
                self.failures = 1 if steady else self.failures + 1
                self._changed.notify_all()
            delay = FIRST_SECONDS if steady else delay
            log.warning("the DNS server ended, and is started again in %g s: %s", delay, self.said)
            self._ending.wait(delay)
            delay = min(2 * delay, CEILING_SECONDS)

    def _once(self) -> None:
        try:
            process = self._start(self._argv, self._folder)
        except OSError as error:
            self.said = f"{self._argv[0]} cannot be started: {error}"
            return
        with self._changed:
            self._process = process
            if self._ending.is_set():
                process.terminate()
        try:
            self._read(process)
            code = self._wait(process)
            self.said = f"{self.said} (it ended with status {code})"
        finally:
            with self._changed:
                self._process = None
                self.serving = False

    def _read(self, process: "Popen[bytes]") -> None:
        assert process.stderr is not None
        said = b""
        with process.stderr as pipe:
            while data := os.read(pipe.fileno(), 4096):
                said = (said + data)[-MAX_SAID:]
                self.said = said.decode(errors="replace").strip()
                if not self.serving and self._ready in said:
                    with self._changed:
                        self.serving = True
                        self._changed.notify_all()

    def _wait(self, process: "Popen[bytes]") -> int:
        try:
            return process.wait(END_SECONDS)
        except TimeoutExpired:  # it closed its standard error and went on
            process.kill()
            return process.wait()
