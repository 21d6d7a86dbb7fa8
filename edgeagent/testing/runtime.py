"""A container runtime in memory, for faults and histories that a real one cannot be made to show."""

import itertools
import socket
from collections.abc import Callable
from typing import Literal

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import (
    ContainerConfig,
    ContainerRecord,
    ExecOptions,
    ExecResult,
    ExecSession,
    Image,
    ImageRecord,
    PullCredentials,
    RuntimeInfo,
)


class FakeSession:
    """A command that somebody attends: ``command`` is its end of the connection, which a test speaks for.

    ``exit_code`` is what the runtime answers once it is set; ``signals`` and ``sizes`` (columns, rows) are
    what it was told.
    """

    def __init__(self, container_id: str, options: ExecOptions, command: socket.socket) -> None:
        self.container_id = container_id
        self.options = options
        self.command = command
        self.exit_code: int | None = None
        self.signals: list[int] = []
        self.sizes: list[tuple[int, int]] = []


class FakeRuntime:
    """A ``ContainerRuntime``. ``log`` has every call; ``failures``, by method, what the next calls raise.

    ``deaf`` are the ids of containers that do not end when they are asked to.
    """

    def __init__(self, now: Callable[[], float], *, images: set[str] | None = None) -> None:
        self._now = now
        self._ids = itertools.count(1)
        self.images = {"image:1", "image:2"} if images is None else images
        self.containers: dict[str, ContainerRecord] = {}
        self.configs: dict[str, ContainerConfig] = {}
        self.log: list[tuple[str, str]] = []
        self.runs: list[ContainerRecord] = []
        self.on_end: Callable[[str], None] = lambda container_id: None
        self.failures: dict[str, list[Exception]] = {}
        self.on_exec: Callable[[str, list[str]], ExecResult] = lambda container_id, command: ExecResult(
            exit_code=0
        )
        self.sessions: dict[str, FakeSession] = {}
        self.credentials: list[PullCredentials | None] = []
        self.sizes: dict[str, int] = {}
        self.deaf: set[str] = set()

    def _called(self, method: str, about: str = "") -> None:
        self.log.append((method, about))
        if waiting := self.failures.get(method):
            raise waiting.pop(0)

    def info(self) -> RuntimeInfo:
        """Name and version."""
        self._called("info")
        return RuntimeInfo(name="fake", version="1")

    def list_containers(self) -> list[ContainerRecord]:
        """All of them."""
        self._called("list_containers")
        return list(self.containers.values())

    def find_image(self, reference: str) -> Image | None:
        """Whether it was pulled or there from the beginning."""
        self._called("find_image", reference)
        return Image(id=f"sha256:{reference}", reference=reference) if reference in self.images else None

    def pull_image(self, reference: str, credentials: PullCredentials | None) -> Image:
        """Always succeeds, save where ``failures`` says otherwise."""
        self.credentials.append(credentials)
        self._called("pull_image", reference)
        self.images.add(reference)
        return Image(id=f"sha256:{reference}", reference=reference)

    def create_container(self, config: ContainerConfig) -> ContainerRecord:
        """As the protocol has it: the same name is the same container."""
        self._called("create_container", config.name)
        for container in self.containers.values():
            if container.name == config.name:
                return container
        if not config.pause and config.image not in self.images:
            raise PermanentError(f"{config.image} is not here", reason="ImageNotPresent")
        made = ContainerRecord(
            id=f"c{next(self._ids)}", name=config.name, image=config.image, labels=config.labels,
            state="created", image_id=f"sha256:{config.image}", created_at=self._now(),
        )  # fmt: skip
        self.containers[made.id] = made
        self.configs[made.id] = config
        return made

    def start_container(self, container_id: str) -> ContainerRecord:
        """Its pid is the number in its id, plus a million."""
        self._called("start_container", container_id)
        if container_id not in self.containers:
            raise TemporaryError(f"there is no container {container_id}")
        if self.containers[container_id].state == "created":
            self.runs.append(
                self._change(
                    container_id,
                    state="running",
                    started_at=self._now(),
                    pid=1_000_000 + int(container_id[1:]),
                )
            )
        return self.containers[container_id]

    def signal_container(self, container_id: str) -> ContainerRecord:
        """Ends at once, with the exit code of SIGTERM, unless it is one of ``deaf``."""
        self._called("signal_container", container_id)
        before = self.containers.get(container_id)
        if before is None:
            return ContainerRecord(id=container_id, name="", image="", labels={}, state="unknown")
        if before.state == "running" and container_id not in self.deaf:
            self.end(container_id, 143)
        return before

    def stop_container(self, container_id: str, grace_seconds: int) -> ContainerRecord:
        """Ends at once, killed where it is ``deaf`` or has no time."""
        self._called("stop_container", container_id)
        if container_id not in self.containers:
            return ContainerRecord(id=container_id, name="", image="", labels={}, state="unknown")
        if self.containers[container_id].state == "running":
            self.end(container_id, 143 if grace_seconds and container_id not in self.deaf else 137)
        return self.containers[container_id]

    def wait_container(self, container_id: str) -> ContainerRecord:
        """The record of what has ended."""
        self._called("wait_container", container_id)
        found = self.containers.get(container_id)
        return found or ContainerRecord(id=container_id, name="", image="", labels={}, state="unknown")

    def exec_container(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        """Whatever ``on_exec`` says, which succeeds unless it is replaced."""
        del timeout_seconds
        self._called("exec_container", container_id)
        found = self.containers.get(container_id)
        if found is None or found.state != "running":
            raise TemporaryError(f"container {container_id} does not run", reason="ContainerNotRunning")
        return self.on_exec(container_id, command)

    def start_exec(self, container_id: str, options: ExecOptions) -> ExecSession:
        """A session of ``sessions``; with a terminal its output is raw."""
        self._called("start_exec", container_id)
        found = self.containers.get(container_id)
        if found is None or found.state != "running":
            raise TemporaryError(f"container {container_id} does not run", reason="ContainerNotRunning")
        ours, theirs = socket.socketpair()
        session_id = f"e{next(self._ids)}"
        self.sessions[session_id] = FakeSession(container_id, options, ours)
        framing: Literal["raw", "multiplexed"] = "raw" if options.tty else "multiplexed"
        return ExecSession(id=session_id, framing=framing, descriptor=theirs.detach())

    def resize_exec(self, session_id: str, columns: int, rows: int) -> None:
        """Remembered in the session."""
        self._called("resize_exec", session_id)
        self.sessions[session_id].sizes.append((columns, rows))

    def signal_exec(self, session_id: str, number: int) -> None:
        """Remembered in the session."""
        self._called("signal_exec", session_id)
        self.sessions[session_id].signals.append(number)

    def exec_exit_code(self, session_id: str) -> int:
        """What the session says, once it does."""
        self._called("exec_exit_code", session_id)
        code = self.sessions[session_id].exit_code
        if code is None:
            raise TemporaryError("the command runs on", reason="CommandRuns")
        return code

    def reopen_log(self, container_id: str) -> None:
        """Writes no log."""
        self._called("reopen_log", container_id)

    def list_images(self) -> list[ImageRecord]:
        """Every image, of a size of 1 MB."""
        self._called("list_images")
        return [
            ImageRecord(id=f"sha256:{name}", references=[name], size=1_000_000)
            for name in sorted(self.images)
        ]

    def remove_image(self, image_id: str) -> None:
        """Refused while a container uses it."""
        self._called("remove_image", image_id)
        if any(container.image_id == image_id for container in self.containers.values()):
            raise TemporaryError(f"{image_id} is in use", reason="ImageInUse")
        self.images.discard(image_id.removeprefix("sha256:"))

    def storage_path(self) -> str:
        """The root."""
        self._called("storage_path")
        return "/"

    def container_sizes(self) -> dict[str, int]:
        """What ``sizes`` says."""
        self._called("container_sizes")
        return dict(self.sizes)

    def remove_container(self, container_id: str) -> None:
        """It need not be there."""
        self._called("remove_container", container_id)
        removed = self.containers.pop(container_id, None)
        if removed is not None and removed.state == "running":
            self.on_end(container_id)

    def end(self, container_id: str, exit_code: int) -> None:
        """The container's process ends."""
        self._change(container_id, state="exited", exit_code=exit_code, finished_at=self._now(), pid=0)
        self.on_end(container_id)

    def reboot(self) -> None:
        """What a reboot leaves: containers that ran are ``created``, as Podman shows them."""
        for container in list(self.containers.values()):
            if container.state == "running":
                self._change(container.id, state="created", pid=0)

    def running(self) -> list[ContainerRecord]:
        """What runs, by id."""
        return sorted(
            (c for c in self.containers.values() if c.state == "running"), key=lambda c: int(c.id[1:])
        )

    def _change(self, container_id: str, **changes: object) -> ContainerRecord:
        changed: ContainerRecord = msgspec.structs.replace(self.containers[container_id], **changes)
        self.containers[container_id] = changed
        return changed


class FakeExits:
    """Tells of ends when it is asked to, in place of pidfds."""

    def __init__(self) -> None:
        self.watched: dict[str, Callable[[str], None]] = {}

    def watch(self, key: str, pid: int, on_exit: Callable[[str], None]) -> bool:
        """Remember whom to tell."""
        del pid
        self.watched[key] = on_exit
        return True

    def forget(self, key: str) -> None:
        """Tell nobody."""
        self.watched.pop(key, None)

    def close(self) -> None:
        """Forget all."""
        self.watched.clear()

    def tell(self, key: str) -> None:
        """The process behind ``key`` has ended."""
        if (on_exit := self.watched.pop(key, None)) is not None:
            on_exit(key)
