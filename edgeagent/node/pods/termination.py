"""The termination message of a container: the file it is written to, and what is read of it.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import PodSpec
from edgeagent.api.runtime import Mount
from edgeagent.node.pods.logs import LogError, read_log

MAX_MESSAGE_BYTES = 4096
MAX_POD_BYTES = 12 * 1024
"""What the messages of all containers of a pod may have together; each gets an equal share."""
LOG_LINES = 80
LOG_BYTES = 2048
_FOLDER = "termination"
_DEFAULT_PATH = "/dev/termination-log"


def pod_folder(base: Path, uid: str) -> Path:
    """The folder of one pod below ``base``; PermanentError where ``uid`` is no name of a folder."""
    if uid in ("", ".", "..") or "/" in uid or "\0" in uid:
        raise PermanentError(f"the pod's uid {uid[:80]!r} cannot name a folder", reason="InvalidObject")
    return base / uid


def termination_file(disk: Path, uid: str, container: str, attempt: int) -> Path:
    """The node's side of the message of run number ``attempt``; ``disk`` is ``<state_dir>/pods``."""
    return pod_folder(disk, uid) / _FOLDER / container / str(attempt)


def prepare_message(disk: Path, uid: str, container: str, attempt: int) -> Path:
    """Make the file for a run: empty, and writable by whatever user the container runs as.

    TemporaryError (reason ``CreateContainerError``) where the disk does not take it.
    """
    path = termination_file(disk, uid, container, attempt)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
        try:
            os.fchmod(descriptor, 0o666)  # the umask took some of it
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TemporaryError(
            f"the termination message's file cannot be made: {error}", reason="CreateContainerError"
        ) from error
    return path


def termination_mount(container: Container, path: Path) -> Mount:
    """How the container sees the file ``path``."""
    return Mount(source=str(path), destination=container.termination_message_path or _DEFAULT_PATH)


def message_limit(spec: PodSpec) -> int:
    """How many bytes the message of each of a pod's containers may have."""
    count = len(spec.containers) + len(spec.init_containers)
    return min(MAX_MESSAGE_BYTES, MAX_POD_BYTES // max(1, count))


def read_message(
    container: Container, path: Path, log_path: str, exit_code: int, *, limit: int = MAX_MESSAGE_BYTES
) -> str:
    """The message of a run that has ended, at most ``limit`` bytes (see ``message_limit``) in UTF-8.

    ``path`` is the run's ``termination_file``; ``log_path`` its log, empty for none, whose end stands in
    for an empty file where the policy is ``FallbackToLogsOnError`` and the run failed.
    """
    raw = _tail(path)
    fall_back = container.termination_message_policy == "FallbackToLogsOnError" and exit_code != 0
    if not raw and fall_back and log_path:
        with suppress(LogError):  # a log that is gone leaves the message empty
            raw = read_log(Path(log_path), tail_lines=LOG_LINES, timestamps=False, limit=LOG_BYTES).text
    # What is not UTF-8 grows when it is replaced.
    return raw.decode(errors="replace").encode()[:limit].decode(errors="ignore")


def _tail(path: Path) -> bytes:
    """The end of a regular file; nothing of anything else, however a container came to put it there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return b""
        return os.pread(descriptor, MAX_MESSAGE_BYTES, max(0, found.st_size - MAX_MESSAGE_BYTES))
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def remove_messages(disk: Path, uid: str, container: str, *, keep: int) -> None:
    """Remove the files of all runs of a container but run number ``keep``; TemporaryError if that fails."""
    with _removing(), os.scandir(termination_file(disk, uid, container, keep).parent) as entries:
        for entry in entries:
            if entry.name != str(keep):
                os.unlink(entry.path)


def remove_all_messages(disk: Path, uid: str) -> None:
    """Remove the files of all of a pod's containers, and their folders; TemporaryError if that fails."""
    with _removing():
        shutil.rmtree(pod_folder(disk, uid) / _FOLDER)


@contextmanager
def _removing() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return  # what is to go has gone
    except OSError as error:
        raise TemporaryError(f"termination messages cannot be removed: {error}") from error
