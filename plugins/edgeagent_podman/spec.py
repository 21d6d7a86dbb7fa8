"""Translation, without input or output: ContainerConfig to Podman's SpecGenerator, Podman's JSON to records.

Podman's structs are decoded leniently: fields unknown here are Podman's business. The names hold for
Podman 4.3 to 5.x; see ``pkg/specgen/specgen.go`` and ``libpod/define/container_inspect.go`` there.
"""

from datetime import datetime
from typing import Literal

import msgspec

from edgeagent.api.runtime import ContainerConfig, ContainerRecord, ContainerSecurity, Mount
from edgeagent_podman import pause, security
from edgeagent_podman.signals import signal_number

CPU_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
"""The kernel takes no smaller CFS quota."""
MIN_SHARES = 2
MAX_SHARES = 262_144
EXIT_CODE_LOST = 255
"""For a container whose end nobody saw, as kubelet reports it after a reboot."""
END_UNSEEN = "ended unseen: the machine went down, or the container's monitor (conmon) was killed"

NAME_IN_USE = "that name is already in use"
"""The innermost error where a container's name is taken."""

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
    """How a container gets a namespace: ``host``, ``private``, or ``path`` or ``container`` with a value."""

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


class Pids(msgspec.Struct, frozen=True):
    """How many processes and threads there may be."""

    limit: int


class Resources(msgspec.Struct, frozen=True):
    """``LinuxResources`` of the OCI runtime specification."""

    cpu: Cpu
    memory: Memory | msgspec.UnsetType = msgspec.UNSET
    pids: Pids | msgspec.UnsetType = msgspec.UNSET


class BindMount(msgspec.Struct, frozen=True):
    """``Mount`` of the OCI runtime specification."""

    destination: str
    source: str
    options: list[str]
    type: str = "bind"


class LogConfiguration(msgspec.Struct, frozen=True):
    """The log driver and the size in bytes at which its file starts anew."""

    driver: str
    size: int


class HealthConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """A container's health check, in the image format's words."""

    test: list[str]


class SpecGenerator(security.SecurityOptions, frozen=True, kw_only=True, omit_defaults=False):
    """The body of ``POST /libpod/containers/create``, as far as it is used."""

    name: str
    labels: dict[str, str]
    env: dict[str, str]
    netns: Namespace
    resource_limits: Resources
    log_configuration: LogConfiguration
    ipcns: Namespace
    pidns: Namespace
    stop_timeout: int
    oom_score_adj: int
    image: str | msgspec.UnsetType = msgspec.UNSET
    rootfs: str | msgspec.UnsetType = msgspec.UNSET
    mounts: list[BindMount] = []
    sysctl: dict[str, str] = {}
    stop_signal: int | msgspec.UnsetType = msgspec.UNSET
    # Podman writes these files itself where nothing else is said.
    use_image_hosts: bool = False
    use_image_resolve_conf: bool = False
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
    # A command named init gets no folders and no signal of its own.
    systemd: str = "false"
    # An image's VOLUMEs live and die with the container.
    image_volume_mode: str = "anonymous"


def cpu_shares(config: ContainerConfig) -> int:
    """``cpu.shares`` as kubelet computes it: from the request, else the limit, never below 2."""
    return min(max(MIN_SHARES, int((config.cpu_request or config.cpu_limit) * 1024)), MAX_SHARES)


def to_spec(config: ContainerConfig, log_size: int, *, lowest_score: int = -1000) -> SpecGenerator:
    """What Podman is asked to create; for a pause container, ``rootfs`` is still to be filled in.

    ``lowest_score`` bounds ``oom_score_adj``. PermanentError where the stop signal is none.
    """
    host = config.network == "host"
    # With a name of its own a container needs its own UTS namespace; on the host's network and without
    # one it goes by the host's name, as pods with hostNetwork do.
    own_name = bool(config.hostname) or not host
    options = security.to_options(_PAUSE_SECURITY if config.pause else config.security)
    destinations = {mount.destination for mount in config.mounts}
    # Podman drops the image's arguments where an entry point is given, as Kubernetes has it.
    entry_point = pause.COMMAND if config.pause else config.command
    return SpecGenerator(
        **msgspec.structs.asdict(options),
        name=config.name,
        image=msgspec.UNSET if config.pause else config.image,
        labels=config.labels,
        env=config.env,
        netns=Namespace("host") if host else Namespace("path", config.network),
        # Podman lets others join the IPC namespace of a container only where it is said to be shareable.
        ipcns=_namespace(config.ipc_namespace, "shareable" if config.pause else "private"),
        pidns=_namespace(config.pid_namespace, "private"),
        utsns=Namespace("private" if own_name else "host"),
        hostname=config.hostname or msgspec.UNSET,
        entrypoint=entry_point or msgspec.UNSET,
        command=config.args or msgspec.UNSET,
        work_dir=config.working_dir or msgspec.UNSET,
        mounts=[_bind_mount(mount) for mount in config.mounts],
        use_image_hosts=config.pause or "/etc/hosts" in destinations,
        use_image_resolve_conf=config.pause or "/etc/resolv.conf" in destinations,
        sysctl=config.sysctls,
        stdin=config.stdin,
        terminal=config.tty,
        resource_limits=_resources(config),
        oom_score_adj=max(config.oom_score_adj, lowest_score),
        log_configuration=LogConfiguration("k8s-file", log_size),
        stop_timeout=max(0, config.stop_timeout),
        stop_signal=signal_number(config.stop_signal) if config.stop_signal else msgspec.UNSET,
    )


_PAUSE_SECURITY = ContainerSecurity(
    drop_capabilities=[security.ALL], no_new_privileges=True, read_only_root=True
)


def _resources(config: ContainerConfig) -> Resources:
    cpu = Cpu(cpu_shares(config))
    if config.cpu_limit > 0:
        quota = max(MIN_QUOTA_US, round(config.cpu_limit * CPU_PERIOD_US))
        cpu = Cpu(cpu.shares, quota, CPU_PERIOD_US)
    memory, pids = config.memory_limit, config.pids_limit
    return Resources(
        cpu,
        Memory(memory, memory) if memory > 0 else msgspec.UNSET,
        Pids(pids) if pids > 0 else msgspec.UNSET,
    )


def _namespace(wanted: str, private: str) -> Namespace:
    """``private`` is Podman's word for a namespace of the container's own."""
    match wanted.partition(":"):
        case ("private", "", ""):
            return Namespace(private)
        case ("host", "", ""):
            return Namespace("host")
        case ("container", ":", container_id):
            return Namespace("container", container_id)
        case _:
            return Namespace("path", wanted)


def _bind_mount(mount: Mount) -> BindMount:
    propagation = "rprivate" if mount.propagation == "private" else mount.propagation
    access = "ro" if mount.read_only else "rw"
    return BindMount(mount.destination, mount.source, ["rbind", access, propagation])


class Created(msgspec.Struct, frozen=True, rename="pascal"):
    """Podman's answer to create."""

    id: str
    warnings: list[str] | None = None


class ImageData(msgspec.Struct, frozen=True, rename="pascal"):
    """An image's inspect, as far as it is used."""

    id: str
    user: str = ""
    repo_tags: list[str] | None = None


class ImageItem(msgspec.Struct, frozen=True, rename="pascal"):
    """An image in a list; ``created`` in seconds, and when it was built: Podman knows no other time."""

    id: str
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    size: int = 0
    created: int = 0


class _Store(msgspec.Struct, frozen=True, rename="camel"):
    graph_root: str


class Info(msgspec.Struct, frozen=True):
    """What Podman says of itself, as far as it is used."""

    store: _Store


class _Size(msgspec.Struct, frozen=True, rename="camel"):
    rw_size: int = 0


class SizedItem(msgspec.Struct, frozen=True, rename="pascal"):
    """A container in a list with sizes."""

    id: str
    size: _Size | None = None


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
    stop_signal: int | str = 0
    """Podman 4 gives the number, Podman 5 the name."""


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
    oci_config_path: str = msgspec.field(default="", name="OCIConfigPath")


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


def stop_signal(found: Inspect) -> str:
    """The signal, as a number or a name, that asks a container to end."""
    return str((found.config.stop_signal if found.config is not None else 0) or "SIGTERM")
