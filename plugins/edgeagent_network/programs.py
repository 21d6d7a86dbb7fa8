"""Running the programs that set the kernel up: ip(8), nft(8), conntrack(8), sysctl files."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgeagent.api.errors import PermanentError, TemporaryError

PROGRAM_SECONDS = 30.0
MAX_ERROR_CHARACTERS = 2_000


class Runner(Protocol):
    """Runs a program, given as its argument list, to its end."""

    def __call__(self, argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        """What it wrote to standard output. TemporaryError (reason ``NetworkFailed``) where it fails, unless
        not ``check``; PermanentError (reason ``ProgramMissing``) where it is not installed.
        """


def run_program(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
    """The real ``Runner``."""
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
        )
    except FileNotFoundError:
        raise PermanentError(
            f"{argv[0]} is not installed: it is needed for pod networks", reason="ProgramMissing"
        ) from None
    except subprocess.TimeoutExpired:
        raise TemporaryError(
            f"{argv[0]} took more than {PROGRAM_SECONDS:g} s", reason="NetworkFailed"
        ) from None
    if check and done.returncode != 0:
        said = done.stderr.strip()[:MAX_ERROR_CHARACTERS]
        raise TemporaryError(f"{' '.join(argv)[:200]}: {said}", reason="NetworkFailed")
    return done.stdout


class Starter(Protocol):
    """Starts a program that goes on running. Its standard error is a pipe."""

    def __call__(self, argv: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
        """The process, which begins in ``folder``; OSError where it cannot be started."""


def start_program(argv: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    """The real ``Starter``."""
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        start_new_session=True,
    )


def started_in_namespace(name: str, starter: Starter = start_program) -> Starter:
    """A ``Starter`` whose programs run in a network namespace; see ``in_namespace``."""

    def start(argv: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
        return starter(["nsenter", f"--net=/run/netns/{name}", *argv], folder)

    return start


def in_namespace(name: str, runner: Runner = run_program) -> Runner:
    """A ``Runner`` whose programs run in the network namespace ``name`` of ip-netns(8).

    Not by ``ip netns exec``: that gives the program mounts of its own, and a namespace that it makes would be
    nobody else's.
    """

    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        return runner(["nsenter", f"--net=/run/netns/{name}", *argv], stdin, check=check)

    return run
