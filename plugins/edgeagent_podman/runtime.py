"""PodmanRuntime: the ContainerRuntime protocol on Podman's REST API."""

import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import (
    LABEL_POD_UID,
    ContainerConfig,
    ContainerRecord,
    ContainerSecurity,
    ExecOptions,
    ExecResult,
    ExecSession,
    Image,
    ImageRecord,
    PullCredentials,
    RuntimeInfo,
)
from edgeagent_podman import logs, oom, spec
from edgeagent_podman.accounts import Accounts
from edgeagent_podman.answers import Answer, failure, gone, not_running, segment
from edgeagent_podman.attended import AttendedCommands
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.execution import Executor
from edgeagent_podman.images import Images
from edgeagent_podman.pause import PauseRoot

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

logger = logging.getLogger(__name__)

# Podman answers 500 to nearly everything that goes wrong. The innermost error's text, which it gives as
# the cause, is what tells one thing from another; these are constants of its source.
_IMAGE_UNKNOWN = "image not known"
_BAD_CONFIG = ("invalid configuration", "invalid argument", "unknown capability")
_NO_APPARMOR = "Apparmor is not enabled"
_NOT_EXECUTABLE = ("OCI runtime attempted to invoke a command that was not found", "OCI permission denied")
_CANNOT_START = ("exec format error", "create failed", "is a directory", "not a directory")
"""What the OCI runtime says of a container that cannot be started as it is."""
_NODE_IS_SHORT = (
    "cannot allocate memory",
    "no space left on device",
    "resource temporarily unavailable",
    "too many open files",
)
"""What the kernel says where another start may do."""

_ENDING = re.compile(r"/proc/\d+/\S+: no such (process|file)")
_ENDING_PAUSES = (0.01, 0.03, 0.1, 0.3)

_OF_PODS = json.dumps({"label": [LABEL_POD_UID]})

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05
_MAX_FRESH = 1024


class PodmanRuntime:
    """Containers on the Podman behind one socket. Connects when first called; any thread may call."""

    def __init__(self, config: PodmanConfig, pause_root: Path) -> None:
        """``pause_root`` is a folder of this plugin alone; it is made when the first pause container is."""
        self._config = config
        self._images = Images(lambda: self._client, config)
        self._accounts = Accounts(lambda: self._client)
        self._pause_root = PauseRoot(pause_root)
        self._lock = threading.Lock()
        self._connected: PodmanClient | None = None
        # Ids of containers created here and never asked to start: these alone are started unseen.
        self._fresh: set[str] = set()
        # What stands before and after the id in the path of a log file; the list does not give the path.
        self._log_path: tuple[str, str] | None = None
        self._storage_path: str | None = None

    def prepare(self) -> None:
        """Import what takes long to import, ahead of the first call. Asks Podman nothing."""
        assert self._client is not None

    @property
    def _client(self) -> "PodmanClient":
        with self._lock:
            if self._connected is None:
                # Imported no sooner than this: podman-py and what it imports are most of this plugin's size.
                from edgeagent_podman.client import PodmanClient

                self._connected = PodmanClient(self._config.socket, self._config.request_timeout)
            return self._connected

    def info(self) -> RuntimeInfo:
        """Podman's name and version, from the header of a ping: ``/version`` runs programs and takes long."""
        answer = self._client.get("_ping")
        if not answer.ok or not answer.version:
            raise failure("answer a ping", answer)
        return RuntimeInfo(name="podman", version=answer.version)

    def list_containers(self) -> list[ContainerRecord]:
        """All containers of pods, in one request and one more for each that has ended."""
        answer = self._client.get("containers/json", {"all": "true", "filters": _OF_PODS})
        if not answer.ok:
            raise failure("list containers", answer)
        records = []
        for item in self._client.decode(answer.body, list[spec.ListItem]):
            if spec.needs_inspect(item) or self._log_path is None:
                record = self._inspect(item.id)
            else:
                before, after = self._log_path
                record = spec.record_of_list_item(item, before + item.id + after)
            if record is not None:  # None: removed since it was listed
                records.append(record)
        return records

    def find_image(self, reference: str) -> Image | None:
        """The image, as Podman resolves ``reference`` among those it holds."""
        return self._images.find(reference)

    def pull_image(self, reference: str, credentials: PullCredentials | None) -> Image:
        """Pull from the registry, whether the image is here or not."""
        return self._images.pull(reference, credentials)

    def list_images(self) -> list[ImageRecord]:
        """All images, in one request; ``created_at`` is when they were built, Podman knows no other time."""
        return self._images.list()

    def remove_image(self, image_id: str) -> None:
        """Remove an image with all its names."""
        self._images.remove(image_id)

    def storage_path(self) -> str:
        """The folder of images and writable layers; asked once, since Podman's answer takes its time."""
        if self._storage_path is None:
            answer = self._client.get("info")
            if not answer.ok:
                raise failure("tell about itself", answer)
            self._storage_path = self._client.decode(answer.body, spec.Info).store.graph_root
        return self._storage_path

    def container_sizes(self) -> dict[str, int]:
        """The writable layers of all containers of pods, in one request; Podman walks through each."""
        params = {"all": "true", "size": "true", "filters": _OF_PODS}
        answer = self._client.get("containers/json", params)
        if not answer.ok:
            raise failure("measure containers", answer)
        items = self._client.decode(answer.body, list[spec.SizedItem])
        return {item.id: max(0, item.size.rw_size) for item in items if item.size is not None}

    def create_container(self, config: ContainerConfig) -> ContainerRecord:
        """Create; what the record of a new container lacks (image id, log path) is in that of its start."""
        body = msgspec.json.encode(self._spec(config))
        answer = self._client.post("containers/create", body=body)
        if not answer.ok:
            existing = self._inspect(config.name)
            if existing is not None and existing.name == config.name:  # else it was an id's beginning
                return existing
            if answer.error().cause == spec.NAME_IN_USE:
                # Power was lost between Podman's storage and its database: only the storage has the name.
                logger.warning("removing what is left of a container %s that Podman lost", config.name)
                self.remove_container(config.name)
                answer = self._client.post("containers/create", body=body)
        if not answer.ok:
            raise self._create_error(config, answer)
        created = self._client.decode(answer.body, spec.Created)
        for warning in created.warnings or []:
            logger.warning("container %s: %s", config.name, warning)
        if len(self._fresh) >= _MAX_FRESH:
            self._fresh.clear()
        self._fresh.add(created.id)
        return ContainerRecord(
            id=created.id,
            name=config.name,
            image=config.image,
            labels=config.labels,
            state="created",
            created_at=time.time(),
        )

    def start_container(self, container_id: str) -> ContainerRecord:
        """Start what has never been started. One that already ran is not run a second time."""
        if container_id in self._fresh:
            self._fresh.discard(container_id)
        else:
            # An earlier call may have started it, its answer lost; a short command may even have ended.
            record = self._existing(container_id)
            if record.state != "created":
                return record
        path = f"containers/{segment(container_id, 'container')}/start"
        answer = self._client.post(path, repeat=False)
        if not answer.ok:
            error = answer.error()
            if error.cause in _NOT_EXECUTABLE or _is_hopeless(error.message.lower()):
                raise PermanentError(error.message, reason="StartError")
            if answer.status == 404:
                raise gone(container_id)
            raise failure(f"start container {container_id[:12]}", answer)
        return self._existing(container_id)

    def signal_container(self, container_id: str) -> ContainerRecord:
        """Send the stop signal that Podman knows for the container."""
        found = self._look(container_id)
        if found is None:
            return _unknown(container_id)
        record = spec.record_of_inspect(found)
        if record.state == "running":
            path = f"containers/{segment(container_id, 'container')}/kill"
            answer = self._client.post(path, {"signal": spec.stop_signal(found)})
            # Gone, or ended, in between.
            if not answer.ok and answer.status not in (404, 409):
                raise failure(f"signal container {container_id[:12]}", answer)
        return record

    def stop_container(self, container_id: str, grace_seconds: int) -> ContainerRecord:
        """Stop, and wait for it; Podman kills what outlives the grace period."""
        grace = max(0, grace_seconds)
        answer = self._client.post(
            f"containers/{segment(container_id, 'container')}/stop",
            {"timeout": str(grace)},
            timeout=grace + self._config.request_timeout,
        )
        record = self._inspect(container_id) or _unknown(container_id)
        if record.state == "running":
            raise failure(f"stop container {container_id[:12]}", answer)
        return record

    def wait_container(self, container_id: str) -> ContainerRecord:
        """Look until the exit code is known, which takes milliseconds.

        Podman's own wait answers once its cleanup process has ended as well, a tenth of a second later.
        """
        deadline = time.monotonic() + self._config.exit_timeout
        pause = _FIRST_PAUSE
        while True:
            record = self._inspect(container_id) or _unknown(container_id)
            if record.state != "running":
                return record
            if time.monotonic() >= deadline:
                return self._without_monitor(record)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def exec_container(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        """Run a command in a session of Podman's, of which nothing stays; out of time, it is killed."""
        return Executor(self._client, self._config).run(container_id, command, timeout_seconds)

    def start_exec(self, container_id: str, options: ExecOptions) -> ExecSession:
        """Start a session of Podman's and hand its connection over."""
        return AttendedCommands(self._client, self._config).start(container_id, options)

    def resize_exec(self, session_id: str, columns: int, rows: int) -> None:
        """Through Podman, which tells the session's monitor."""
        AttendedCommands(self._client, self._config).resize(session_id, columns, rows)

    def signal_exec(self, session_id: str, number: int) -> None:
        """Straight to the process: Podman has no call for it."""
        AttendedCommands(self._client, self._config).signal(session_id, number)

    def exec_exit_code(self, session_id: str) -> int:
        """Look until it is known; then the session is removed."""
        return AttendedCommands(self._client, self._config).exit_code(session_id)

    def reopen_log(self, container_id: str) -> None:
        """Tell the container's monitor, through a FIFO in its folder, and wait for the new file."""
        found = self._look(container_id)
        if found is None:
            raise gone(container_id)
        record = spec.record_of_inspect(found)
        if record.state != "running" or not found.oci_config_path or not record.log_path:
            raise not_running(container_id)
        bundle = Path(found.oci_config_path).parent
        logs.reopen(container_id, bundle, Path(record.log_path), self._config.exit_timeout)

    def remove_container(self, container_id: str) -> None:
        """Remove by force, with the anonymous volumes; a running one is killed at once."""
        # "v" is documented, "volumes" is what Podman 4 and 5 read.
        params = {"force": "true", "v": "true", "volumes": "true", "timeout": "0"}
        answer = self._client.delete(f"containers/{segment(container_id, 'container')}", params)
        self._fresh.discard(container_id)
        if not answer.ok and answer.status != 404:
            raise failure(f"remove container {container_id[:12]}", answer)

    def _spec(self, config: ContainerConfig) -> spec.SpecGenerator:
        """The request for a new container, with what only this node knows filled in."""
        if not config.pause:
            config = msgspec.structs.replace(config, security=self._with_groups(config))
        made = spec.to_spec(config, self._config.log_size_bytes, lowest_score=oom.lowest_score())
        if config.pause:
            return msgspec.structs.replace(made, rootfs=str(self._pause_root.ready()))
        return made

    def _with_groups(self, config: ContainerConfig) -> ContainerSecurity:
        """The container's security, with what Podman does not know of the image's groups."""
        security = config.security
        uid, group_is_named, _ = security.user.partition(":")
        of_image = security.strict_groups and not security.user
        merged = bool(group_is_named) and uid.isdigit() and not security.strict_groups
        if not of_image and not merged:
            return security
        image = self.find_image(config.image)
        if image is None:
            raise _no_image(config)
        if of_image:
            return msgspec.structs.replace(security, user=image.user or "0")
        groups = security.supplemental_groups
        more = self._accounts.groups(image.id, int(uid), config.name)
        return msgspec.structs.replace(security, supplemental_groups=list(dict.fromkeys([*groups, *more])))

    def _inspect(self, id_or_name: str) -> ContainerRecord | None:
        """The record of one container, None where there is none."""
        found = self._look(id_or_name)
        if found is None:
            return None
        record = spec.record_of_inspect(found)
        before, known, after = record.log_path.partition(record.id)
        if known and record.id not in after:
            self._log_path = (before, after)
        return record

    def _look(self, id_or_name: str) -> spec.Inspect | None:
        path = f"containers/{segment(id_or_name, 'container')}/json"
        answer = self._client.get(path)
        for pause in _ENDING_PAUSES:
            if answer.ok or not _ENDING.search(answer.error().message):
                break
            # Podman was reading about a process that ended meanwhile; soon it knows.
            time.sleep(pause)
            answer = self._client.get(path)
        if answer.status == 404:
            return None
        if not answer.ok:
            raise failure(f"inspect container {id_or_name[:12]}", answer)
        return self._client.decode(answer.body, spec.Inspect)

    def _existing(self, container_id: str) -> ContainerRecord:
        record = self._inspect(container_id)
        if record is None:
            raise gone(container_id)
        return record

    def _without_monitor(self, record: ContainerRecord) -> ContainerRecord:
        """What to make of a container that Podman still calls running after the time for its end."""
        if record.pid and _lives(record.pid):
            problem = f"container {record.id[:12]} still runs, as process {record.pid}"
            raise TemporaryError(problem, reason="RuntimeUnavailable")
        # Its monitor (conmon) was killed before it; nobody else was told the exit code.
        return msgspec.structs.replace(
            record,
            state="exited",
            pid=0,
            exit_code=spec.EXIT_CODE_LOST,
            error=spec.END_UNSEEN,
            finished_at=time.time(),
        )

    def _create_error(self, config: ContainerConfig, answer: Answer) -> Exception:
        error = answer.error()
        reason = "CreateContainerError"
        if error.cause == _IMAGE_UNKNOWN:
            return _no_image(config)
        bad = error.cause in _BAD_CONFIG or error.cause.startswith("json: ") or _NO_APPARMOR in error.message
        if answer.status < 500 or bad:
            return PermanentError(f"Podman refuses container {config.name}: {error.message}", reason=reason)
        return TemporaryError(f"could not create container {config.name}: {error.message}", reason=reason)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _unknown(container_id: str) -> ContainerRecord:
    return ContainerRecord(id=container_id, name="", image="", labels={}, state="unknown")


def _no_image(config: ContainerConfig) -> PermanentError:
    return PermanentError(f"image {config.image} is not on this node", reason="ImageNotPresent")


def _is_hopeless(said: str) -> bool:
    """Whether the OCI runtime would say so again and again; ``said`` in lower case."""
    return any(words in said for words in _CANNOT_START) and not any(
        words in said for words in _NODE_IS_SHORT
    )
