"""Translation, without input or output: ContainerConfig to Podman's SpecGenerator, Podman's JSON to records.

Podman's structs are decoded leniently: fields unknown here are Podman's business. The names hold for
Podman 4.3 to 5.x; see ``pkg/specgen/specgen.go`` and ``libpod/define/container_inspect.go`` there.
"""

from datetime import datetime
from typing import Literal

import msgspec

from edgeagent.api.runtime import ContainerConfig, ContainerRecord

CPU_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
"""The kernel takes no smaller CFS quota."""
MIN_SHARES = 2
MAX_SHARES = 262_144
EXIT_CODE_LOST = 255
"""For a container whose end nobody saw, as kubelet reports it after a reboot."""
END_UNSEEN = "ended unseen: the machine went down, or the container's monitor (conmon) was killed"

State = Literal["created", "running", "exited", "unknown"]
_STATES: dict[str, State] = {
    "configured": "created",
    "created": "created",
    "initialized": "created",
    "running": "running",
    "paused": "running",
    "stopping": "running",
    # Ended, and the exit code is known; in "exited" Podman has cleaned up as well.
    "stopped": "exited",
    "exited": "exited",
}


class Namespace(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a container gets a namespace: ``host``, ``private``, or ``path`` with a value."""

    nsmode: str
    value: str = ""


class Memory(msgspec.Struct, frozen=True):
    """Bytes. ``swap`` is memory and swap together, so the same number twice means no swap."""

    limit: int
    swap: int


class Cpu(msgspec.Struct, frozen=True):
    """The CFS numbers of the OCI runtime specification; quota and period in microseconds."""

    shares: int
    quota: int | msgspec.UnsetType = msgspec.UNSET
    period: int | msgspec.UnsetType = msgspec.UNSET


class Resources(msgspec.Struct, frozen=True):
    """``LinuxResources`` of the OCI runtime specification."""

    cpu: Cpu
    memory: Memory | msgspec.UnsetType = msgspec.UNSET


class LogConfiguration(msgspec.Struct, frozen=True):
    """The log driver and the size in bytes at which its file starts anew."""

    driver: str
    size: int


class HealthConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """A container's health check, in the image format's words."""

    test: list[str]


class SpecGenerator(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /libpod/containers/create``, as far as it is used."""

    name: str
    image: str
    labels: dict[str, str]
    env: dict[str, str]
    netns: Namespace
    resource_limits: Resources
    log_configuration: LogConfiguration
    stop_timeout: int
    utsns: Namespace | msgspec.UnsetType = msgspec.UNSET
    hostname: str | msgspec.UnsetType = msgspec.UNSET
    entrypoint: list[str] | msgspec.UnsetType = msgspec.UNSET
    command: list[str] | msgspec.UnsetType = msgspec.UNSET
    work_dir: str | msgspec.UnsetType = msgspec.UNSET
    # As other runtimes under Kubernetes do with a workingDir that the image lacks.
    create_working_dir: bool = True
    # The lifecycle is the core's: Podman restarts nothing, checks no health, and starts no init.
    restart_policy: str = "no"
    healthconfig: HealthConfig = HealthConfig(["NONE"])
    init: bool = False
    remove: bool = False
    terminal: bool = False
    stdin: bool = False
    # Nothing of the host's environment reaches the container.
    env_host: bool = False
    httpproxy: bool = False
    sdnotify_mode: str = msgspec.field(default="ignore", name="sdnotifyMode")
    # An image's VOLUMEs live and die with the container.
    image_volume_mode: str = "anonymous"


def cpu_shares(config: ContainerConfig) -> int:
    """``cpu.shares`` as kubelet computes it: from the request, else the limit, never below 2."""
    return min(max(MIN_SHARES, int((config.cpu_request or config.cpu_limit) * 1024)), MAX_SHARES)


def to_spec(config: ContainerConfig, log_size: int) -> SpecGenerator:
    """What Podman is asked to create."""
    cpu = Cpu(cpu_shares(config))
    if config.cpu_limit > 0:
        quota = max(MIN_QUOTA_US, round(config.cpu_limit * CPU_PERIOD_US))
        cpu = Cpu(cpu.shares, quota, CPU_PERIOD_US)
    limit = config.memory_limit
    host = config.network == "host"
    # With a name of its own a container needs its own UTS namespace; on the host's network and without
    # one it goes by the host's name, as pods with hostNetwork do.
    own_name = bool(config.hostname) or not host
    # Podman drops the image's arguments where an entry point is given, as Kubernetes has it.
    return SpecGenerator(
        name=config.name,
        image=config.image,
        labels=config.labels,
        env=config.env,
        netns=Namespace("host") if host else Namespace("path", config.network),
        utsns=Namespace("private" if own_name else "host"),
        hostname=config.hostname or msgspec.UNSET,
        entrypoint=config.command or msgspec.UNSET,
        command=config.args or msgspec.UNSET,
        work_dir=config.working_dir or msgspec.UNSET,
        resource_limits=Resources(cpu, Memory(limit, limit) if limit > 0 else msgspec.UNSET),
        log_configuration=LogConfiguration("k8s-file", log_size),
        stop_timeout=max(0, config.stop_timeout),
    )


class Created(msgspec.Struct, frozen=True, rename="pascal"):
    """Podman's answer to create."""

    id: str
    warnings: list[str] | None = None


class ImageData(msgspec.Struct, frozen=True, rename="pascal"):
    """An image's inspect, as far as it is used."""

    id: str


class PullReport(msgspec.Struct, frozen=True):
    """One line of the answer to a pull; an error comes in a line too, after status 200."""

    id: str = ""
    error: str = ""


class ErrorModel(msgspec.Struct, frozen=True):
    """The body of an answer with an error status; ``cause`` is the innermost error's text."""

    cause: str = ""
    message: str = ""


class _LogConfig(msgspec.Struct, frozen=True, rename="pascal"):
    path: str = ""


class _HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    log_config: _LogConfig | None = None


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None


class _State(msgspec.Struct, frozen=True, rename="pascal"):
    status: str
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")
    error: str = ""
    started_at: str = ""
    finished_at: str = ""


class Inspect(msgspec.Struct, frozen=True, rename="pascal"):
    """A container's inspect, as far as it is used."""

    id: str
    name: str
    state: _State
    image: str = ""
    image_name: str = ""
    created: str = ""
    config: _Config | None = None
    host_config: _HostConfig | None = None


class ListItem(msgspec.Struct, frozen=True, rename="pascal"):
    """A container in a list, as far as it is used; times are whole seconds."""

    id: str
    names: list[str]
    state: str
    image: str = ""
    image_id: str = msgspec.field(default="", name="ImageID")
    labels: dict[str, str] | None = None
    pid: int = 0
    exit_code: int = 0
    created: str = ""
    started_at: int = 0
    exited_at: int = 0


def parse_time(text: str) -> float:
    """Go's JSON time in seconds since the epoch; 0 for its zero value and for what is no time."""
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def record_of_inspect(data: Inspect) -> ContainerRecord:
    """The record of an inspected container."""
    state = _STATES.get(data.state.status, "unknown")
    log_config = data.host_config.log_config if data.host_config else None
    record = ContainerRecord(
        id=data.id,
        name=data.name,
        image=data.image_name,
        image_id=data.image,
        labels=(data.config.labels if data.config else None) or {},
        state=state,
        pid=data.state.pid if state == "running" else 0,
        exit_code=data.state.exit_code if state == "exited" else 0,
        oom_killed=data.state.oom_killed,
        error=data.state.error,
        created_at=parse_time(data.created),
        started_at=parse_time(data.state.started_at),
        finished_at=parse_time(data.state.finished_at),
        log_path=log_config.path if log_config else "",
    )
    return _end_unseen(record)


def _end_unseen(record: ContainerRecord) -> ContainerRecord:
    """Correct what Podman says of a container that ran when the machine went down.

    Podman 4 then says that it was never started, Podman 5 that it exited with code 0, which would pass
    for success. Both know a start and no end. (Comparing the two times would not do: an end comes from a
    coarser clock, and lies before the start where a container lived for a moment only.)
    """
    if record.state in ("created", "exited") and record.started_at > 0 and record.finished_at <= 0:
        return msgspec.structs.replace(
            record,
            state="exited",
            exit_code=EXIT_CODE_LOST,
            error=record.error or END_UNSEEN,
        )
    return record


def needs_inspect(item: ListItem) -> bool:
    """Whether the list says too little: the end of a container, and whether it ended, need the inspect."""
    return not (item.state == "running" or (item.state in ("created", "configured") and item.started_at <= 0))


def record_of_list_item(item: ListItem, log_path: str) -> ContainerRecord:
    """The record of a listed container that runs or was never started (see ``needs_inspect``)."""
    state = _STATES.get(item.state, "unknown")
    return ContainerRecord(
        id=item.id,
        name=item.names[0] if item.names else "",
        image=item.image,
        image_id=item.image_id,
        labels=item.labels or {},
        state=state,
        pid=item.pid if state == "running" else 0,
        created_at=parse_time(item.created),
        started_at=float(max(0, item.started_at)),
        log_path=log_path,
    )
