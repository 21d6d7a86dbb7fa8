"""PodmanRuntime: the ContainerRuntime protocol on Podman's REST API."""

import base64
import json
import logging
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import (
    LABEL_POD_UID,
    ContainerConfig,
    ContainerRecord,
    Image,
    PullCredentials,
    RuntimeInfo,
)
from edgeagent_podman import spec
from edgeagent_podman.config import PodmanConfig

if TYPE_CHECKING:
    from edgeagent_podman.client import Answer, PodmanClient

logger = logging.getLogger(__name__)

# Podman answers 500 to nearly everything that goes wrong. The innermost error's text, which it gives as
# the cause, is what tells one thing from another; these are constants of its source.
_IMAGE_UNKNOWN = "image not known"
_BAD_REFERENCE = "invalid reference format"
_NAME_IN_USE = "that name is already in use"
_BAD_CONFIG = ("invalid configuration", "invalid argument")
_NOT_EXECUTABLE = ("OCI runtime attempted to invoke a command that was not found", "OCI permission denied")
_WRONG_FORMAT = "exec format error"

_ENDING = re.compile(r"/proc/\d+/\S+: no such (process|file)")
_ENDING_PAUSES = (0.01, 0.03, 0.1, 0.3)

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.05
_MAX_FRESH = 1024


class PodmanRuntime:
    """Containers on the Podman behind one socket. Connects when first called; any thread may call."""

    def __init__(self, config: PodmanConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._connected: PodmanClient | None = None
        # Ids of containers created here and never asked to start: these alone are started unseen.
        self._fresh: set[str] = set()
        # What stands before and after the id in the path of a log file; the list does not give the path.
        self._log_path: tuple[str, str] | None = None

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
            raise self._failure("answer a ping", answer)
        return RuntimeInfo(name="podman", version=answer.version)

    def list_containers(self) -> list[ContainerRecord]:
        """All containers of pods, in one request and one more for each that has ended."""
        filters = json.dumps({"label": [LABEL_POD_UID]})
        answer = self._client.get("containers/json", {"all": "true", "filters": filters})
        if not answer.ok:
            raise self._failure("list containers", answer)
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
        answer = self._client.get(f"images/{_segment(reference, 'image')}/json")
        if answer.ok:
            return Image(id=self._client.decode(answer.body, spec.ImageData).id, reference=reference)
        if answer.error().cause == _BAD_REFERENCE:
            raise _bad_reference(reference)
        if answer.status == 404:
            return None
        raise self._failure(f"look for image {reference}", answer)

    def pull_image(self, reference: str, credentials: PullCredentials | None) -> Image:
        """Pull from the registry, whether the image is here or not."""
        # Not quiet, Podman reports each blob once and is silent for as long as it takes: no better a sign
        # of life. Quiet, it gives up the pull when this side hangs up.
        params = {"reference": reference, "quiet": "true"}
        if any(reference.startswith(f"{host.rstrip('/')}/") for host in self._config.insecure_registries):
            params["tlsVerify"] = "false"
        headers = {}
        if credentials is not None:
            plain = json.dumps({"username": credentials.username, "password": credentials.password})
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(plain.encode()).decode()
        answer = self._client.post("images/pull", params, headers=headers, timeout=self._config.pull_timeout)
        if not answer.ok:
            raise _pull_error(reference, answer.error().message)
        image_id = ""
        for line in answer.body.splitlines():
            if line.strip():
                report = self._client.decode(line, spec.PullReport)
                if report.error:
                    raise _pull_error(reference, report.error)
                image_id = report.id or image_id
        if not image_id:
            raise _pull_error(reference, "Podman's answer names no image")
        return Image(id=image_id, reference=reference)

    def create_container(self, config: ContainerConfig) -> ContainerRecord:
        """Create; what the record of a new container lacks (image id, log path) is in that of its start."""
        body = msgspec.json.encode(spec.to_spec(config, self._config.log_size_bytes))
        answer = self._client.post("containers/create", body=body)
        if not answer.ok:
            existing = self._inspect(config.name)
            if existing is not None and existing.name == config.name:  # else it was an id's beginning
                return existing
            if answer.error().cause == _NAME_IN_USE:
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
        path = f"containers/{_segment(container_id, 'container')}/start"
        answer = self._client.post(path, repeat=False)
        if not answer.ok:
            error = answer.error()
            if error.cause in _NOT_EXECUTABLE or _WRONG_FORMAT in error.message.lower():
                raise PermanentError(error.message, reason="StartError")
            if answer.status == 404:
                raise _gone(container_id)
            raise self._failure(f"start container {container_id[:12]}", answer)
        return self._existing(container_id)

    def stop_container(self, container_id: str, grace_seconds: int) -> ContainerRecord:
        """Stop, and wait for it; Podman kills what outlives the grace period."""
        grace = max(0, grace_seconds)
        answer = self._client.post(
            f"containers/{_segment(container_id, 'container')}/stop",
            {"timeout": str(grace)},
            timeout=grace + self._config.request_timeout,
        )
        record = self._inspect(container_id) or _unknown(container_id)
        if record.state == "running":
            raise self._failure(f"stop container {container_id[:12]}", answer)
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

    def remove_container(self, container_id: str) -> None:
        """Remove by force, with the anonymous volumes; a running one is killed at once."""
        # "v" is documented, "volumes" is what Podman 4 and 5 read.
        params = {"force": "true", "v": "true", "volumes": "true", "timeout": "0"}
        answer = self._client.delete(f"containers/{_segment(container_id, 'container')}", params)
        self._fresh.discard(container_id)
        if not answer.ok and answer.status != 404:
            raise self._failure(f"remove container {container_id[:12]}", answer)

    def _inspect(self, id_or_name: str) -> ContainerRecord | None:
        """The record of one container, None where there is none."""
        path = f"containers/{_segment(id_or_name, 'container')}/json"
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
            raise self._failure(f"inspect container {id_or_name[:12]}", answer)
        record = spec.record_of_inspect(self._client.decode(answer.body, spec.Inspect))
        before, found, after = record.log_path.partition(record.id)
        if found and record.id not in after:
            self._log_path = (before, after)
        return record

    def _existing(self, container_id: str) -> ContainerRecord:
        record = self._inspect(container_id)
        if record is None:
            raise _gone(container_id)
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

    def _create_error(self, config: ContainerConfig, answer: "Answer") -> Exception:
        error = answer.error()
        reason = "CreateContainerError"
        if error.cause == _IMAGE_UNKNOWN:
            return PermanentError(f"image {config.image} is not on this node", reason="ImageNotPresent")
        if answer.status < 500 or error.cause in _BAD_CONFIG or error.cause.startswith("json: "):
            return PermanentError(f"Podman refuses container {config.name}: {error.message}", reason=reason)
        return TemporaryError(f"could not create container {config.name}: {error.message}", reason=reason)

    def _failure(self, what: str, answer: "Answer") -> TemporaryError:
        problem = f"Podman on {self._config.socket} could not {what}: {answer.error().message}"
        return TemporaryError(f"{problem} (status {answer.status})", reason="RuntimeError")


def _lives(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _segment(text: str, what: str) -> str:
    """``text`` as one segment of a path."""
    if not text:
        raise PermanentError(f"no {what} was named", reason="InvalidArgument")
    return quote(text, safe="")


def _unknown(container_id: str) -> ContainerRecord:
    return ContainerRecord(id=container_id, name="", image="", labels={}, state="unknown")


def _gone(container_id: str) -> PermanentError:
    return PermanentError(f"there is no container {container_id[:12]} any more", reason="ContainerNotFound")


def _bad_reference(reference: str) -> PermanentError:
    return PermanentError(f"{reference[:200]!r} is not an image reference", reason="InvalidImageName")


def _pull_error(reference: str, message: str) -> Exception:
    if message.endswith(_BAD_REFERENCE):
        return _bad_reference(reference)
    return TemporaryError(f"could not pull {reference}: {message}", reason="ErrImagePull")
