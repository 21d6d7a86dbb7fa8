"""The processes that an exec session leaves behind.

Its monitor (conmon) lives on after the command has ended, and its child sleeps for five minutes
(``exit_command_delay`` in containers.conf) to remove the session then. With a probe every ten seconds that
would be sixty processes for each container.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PAUSES = (0.002, 0.005, 0.01, 0.03, 0.1)


def end_monitors(session_id: str, proc: Path = Path("/proc")) -> None:
    """Kill what waits to remove a session that is removed already."""
    for pid in _monitors(session_id, proc):
        _send(pid, signal.SIGKILL, session_id, proc)


def wake_monitors(session_id: str, proc: Path = Path("/proc"), pauses: Sequence[float] = _PAUSES) -> None:
    """Make what waits to remove a session do it now: a signal it handles cuts its sleep short.

    The one that sleeps is the child of the other, and may not have been made yet. Awake, it becomes Podman.
    """
    woken = False
    for pause in pauses:
        found = set(_monitors(session_id, proc))
        asleep = [pid for pid in found if _parent(pid, proc) in found]
        for pid in asleep:
            _send(pid, signal.SIGINT, session_id, proc)
        if not found or (woken and not asleep):
            return
        woken = bool(asleep)
        time.sleep(pause)


def signal_process(
    pid: int, container_id: str, number: int = signal.SIGKILL, proc: Path = Path("/proc")
) -> bool:
    """Send a signal to a command in a container, and to its process group where it leads one.

    False where process ``pid`` is not, or no longer, in the container's cgroup.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # also where the number can be no process's
        return False
    try:
        # Looked at after it is held: from here on the number cannot become another process's.
        if container_id not in (proc / str(pid) / "cgroup").read_text(errors="replace"):
            return False
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True


def _monitors(session_id: str, proc: Path) -> Iterator[int]:
    for entry in os.scandir(proc):
        if entry.name.isdigit() and _is_monitor(int(entry.name), session_id, proc):
            yield int(entry.name)


def _is_monitor(pid: int, session_id: str, proc: Path) -> bool:
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].rpartition(b"/")[2] == b"conmon" and session_id.encode() in words


def _parent(pid: int, proc: Path) -> int:
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _send(pid: int, number: signal.Signals, session_id: str, proc: Path) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _is_monitor(pid, session_id, proc):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
