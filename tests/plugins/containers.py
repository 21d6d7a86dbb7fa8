"""Containers for tests of the Podman plugin: how one is described, ended and read."""

import itertools
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import LABEL_POD_UID, ContainerConfig, ContainerRecord
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.runtime import PodmanRuntime
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

IMAGE = "localhost/busybox:1"
Make = Callable[..., ContainerRecord]
"""Creates a container of a command and changes to a usual config."""

_numbers = itertools.count()
_END = "end-of-output"


def runtime_on(podman: PodmanService, **settings: object) -> PodmanRuntime:
    """The runtime on this Podman, with changes to the usual settings."""
    usual = PodmanConfig(socket=str(podman.socket))
    return PodmanRuntime(msgspec.structs.replace(usual, **settings), podman.directory / "pause")


def config(*command: str, **changes: object) -> ContainerConfig:
    """A usual config with changes; a name is given where there is none."""
    base = ContainerConfig(
        name=f"c{next(_numbers)}", image=IMAGE, labels={LABEL_POD_UID: "u"}, command=list(command) or None
    )
    return msgspec.structs.replace(base, **changes)


def wait_dead(pid: int, number: signal.Signals | None = None) -> None:
    """Return once the process has ended, as a pidfd tells; ``number`` is sent to it first."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if number is not None:
            signal.pidfd_send_signal(descriptor, number)
        assert select.select([descriptor], [], [], 15)[0], f"process {pid} did not end"
    finally:
        os.close(descriptor)


def ended(runtime: PodmanRuntime, record: ContainerRecord) -> ContainerRecord:
    """Run a created container to its end."""
    started = runtime.start_container(record.id)
    if started.pid:
        wait_dead(started.pid)
    return runtime.wait_container(record.id)


def log_text(record: ContainerRecord) -> str:
    """The container's output, from its log in CRI's format."""
    lines = wait_for(lambda: Path(record.log_path).read_text().splitlines(), what="a log line")
    return "\n".join(line.split(" ", 3)[3] for line in lines)


def run(runtime: PodmanRuntime, script: str, **changes: object) -> str:
    """What a shell in a container of its own printed, which must have succeeded."""
    whole = f"{script}\ncode=$?; echo {_END}; exit $code"
    record = ended(runtime, runtime.create_container(config("sh", "-c", whole, **changes)))
    # The exit code may be known a moment before the output is in the log.
    wait_for(lambda: _END in log_text(record), what="all output")
    text = log_text(record).replace("\r", "")
    assert record.exit_code == 0, text
    return text.removesuffix(_END).rstrip("\n")


def remove(runtime: PodmanRuntime, container_id: str) -> None:
    """Remove a container as the core does, which asks again where Podman could not do it yet."""

    def removed() -> bool:
        try:
            runtime.remove_container(container_id)
        except TemporaryError:
            return False
        return True

    wait_for(removed, what="the container removed")
