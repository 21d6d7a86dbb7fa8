"""The agent's own configuration: one TOML file, every key checked, every default in one place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.decode import convert
from edgeagent.api.quantity import parse_quantity
from edgeagent.node.pressure.amounts import NOTHING, Amount, parse_amount, parse_duration
from edgeagent.node.pressure.thresholds import SIGNALS, Signal, Threshold

T = TypeVar("T")
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]


def _parsed(path: str, text: str, parse: Callable[[str], T]) -> T:
    """InvalidObjectError that names the key where ``parse`` finds no sense in ``text``."""
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidObjectError(path, str(error)) from None


def _by_signal(path: str, given: Mapping[str, str], parse: Callable[[str], T]) -> dict[Signal, T]:
    if unknown := sorted(given.keys() - set(SIGNALS)):
        problem = f"unknown signal {unknown[0][:40]!r}, expected one of {', '.join(SIGNALS)}"
        raise InvalidObjectError(path, problem)
    return {
        signal: _parsed(f'{path}."{signal}"', given[signal], parse) for signal in SIGNALS if signal in given
    }


class AgentSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[agent]``. ``resync_seconds``: how often everything is looked at anew, changes apart.

    ``node_name``: what a node that is not enrolled goes by, its host name where this is empty.
    ``reserve_size`` is kept free beside the store, so that a full disk takes what must be written; 0: none.
    ``reboot_command`` is what `edgectl reboot` runs; empty: systemd's, or ``/sbin/reboot`` where it is not.
    """

    state_dir: str = "/var/lib/edgeagent"
    run_dir: str = "/run/edgeagent"
    node_name: str = ""
    resync_seconds: Annotated[float, msgspec.Meta(ge=10)] = 1800.0
    log_level: str = "info"
    reserve_size: str = "8Mi"
    reboot_command: list[str] = []

    def __post_init__(self) -> None:
        """InvalidObjectError where ``reserve_size`` is no quantity."""
        self.reserve_bytes  # noqa: B018 - asked for its error

    @property
    def reserve_bytes(self) -> int:
        """``reserve_size`` as a number."""
        return int(_parsed("agent.reserve_size", self.reserve_size, parse_quantity))


class IdentitySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[identity]``. ``seal``: how private keys lie on disk; ``systemd-creds`` binds them to this machine.

    ``seal_with``: by its TPM (``tpm2``), a file of systemd's (``host``), or whichever it has (``auto``). Keys
    that lie in clear are sealed at the next start.
    """

    seal: Literal["", "systemd-creds"] = ""
    seal_with: Literal["auto", "host", "tpm2"] = "auto"


class MqttSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[mqtt]``. ``brokers`` (``host:port``) takes the place of the join file's where it is not empty."""

    brokers: list[str] = []
    tls: bool = True
    keepalive_seconds: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 120
    session_expiry_seconds: Annotated[int, msgspec.Meta(ge=0)] = 0
    reconnect_ceiling_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0


class PodsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[pods]``. ``required_admission``: plugins without whose word no new pod is run, where they are
    installed and cannot be loaded. The other names are kubelet's: ``podPidsLimit`` (-1: no limit),
    ``maxPods``, ``allowedUnsafeSysctls`` (what pods may set beside the safe ones; ``net.*`` or
    ``kernel.msg*`` for all that begin so), ``staticPodPath`` (empty: none).
    https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#enabling-unsafe-sysctls
    """

    pids_limit: Annotated[int, msgspec.Meta(ge=-1)] = -1
    max_pods: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 110
    allowed_unsafe_sysctls: list[Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_.-]+\*?$")]] = []
    static_pod_path: Annotated[str, msgspec.Meta(pattern=r"^(/|$)")] = "/etc/edgeagent/manifests"
    required_admission: tuple[str, ...] = ("security",)

    def __post_init__(self) -> None:
        """InvalidObjectError where ``pids_limit`` would let no process start."""
        if self.pids_limit == 0:
            raise InvalidObjectError("pods.pids_limit", "must be -1 (no limit) or at least 1")


class ImagesSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[images]``. Images that nothing needs go when the disk is fuller than ``high_threshold_percent``,
    until it is at ``low_threshold_percent``, but none that has been unused for less than ``minimum_age``. One
    that has been unused for ``maximum_age`` goes anyway (``0s``: never). kubelet's words, again:
    ``imageGCHighThresholdPercent``, ``imageMinimumGCAge`` and so on.
    """

    high_threshold_percent: Percent = 85
    low_threshold_percent: Percent = 80
    minimum_age: str = "2m"
    maximum_age: str = "0s"

    def __post_init__(self) -> None:
        """InvalidObjectError for what no collection could follow."""
        if self.low_threshold_percent > self.high_threshold_percent:
            raise InvalidObjectError("images.low_threshold_percent", "is above high_threshold_percent")
        minimum, maximum = self.minimum_age_seconds, self.maximum_age_seconds
        if 0 < maximum <= minimum:
            raise InvalidObjectError("images.maximum_age", "must be longer than minimum_age, or 0s")

    @property
    def minimum_age_seconds(self) -> float:
        """``minimum_age`` as a number."""
        return _parsed("images.minimum_age", self.minimum_age, parse_duration)

    @property
    def maximum_age_seconds(self) -> float:
        """``maximum_age`` as a number, 0 for never."""
        return _parsed("images.maximum_age", self.maximum_age, parse_duration)


class LogsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[logs]``. A container's log is rotated at ``max_size``; ``max_files`` are kept, the current one
    included. kubelet's ``containerLogMaxSize`` and ``containerLogMaxFiles``.
    """

    max_size: str = "10Mi"
    max_files: Annotated[int, msgspec.Meta(ge=2, le=100)] = 5

    def __post_init__(self) -> None:
        """InvalidObjectError where ``max_size`` is no useful size."""
        if self.max_bytes < 4096:
            raise InvalidObjectError("logs.max_size", "must be at least 4Ki")

    @property
    def max_bytes(self) -> int:
        """``max_size`` as a number."""
        return int(_parsed("logs.max_size", self.max_size, parse_quantity))


class TelemetrySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[telemetry]``. What waits for sinks and exporters may take ``logs_budget`` and ``metrics_budget`` on
    disk, and no more than ``drain_rate`` bytes a second of it go to each of them.

    While there is an exporter, metrics are gathered every ``metrics_resolution``; what waits for longer than
    ``downsample_after`` is thinned to ``downsampled_resolution``. ``logs_to_broker`` and ``metrics_to_hub``
    send them by way of the cluster's own broker.
    """

    logs_budget: str = "32Mi"
    metrics_budget: str = "16Mi"
    drain_rate: str = "1Mi"
    logs_to_broker: bool = False
    metrics_to_hub: bool = False
    metrics_resolution: str = "1m"
    downsample_after: str = "2h"
    downsampled_resolution: str = "2m"

    def __post_init__(self) -> None:
        """InvalidObjectError that names the first key that is wrong."""
        for key, least in (("logs_budget", 1 << 20), ("metrics_budget", 1 << 20), ("drain_rate", 1024)):
            if self._bytes(key) < least:
                raise InvalidObjectError(f"telemetry.{key}", f"must be at least {least} bytes")
        for key in ("metrics_resolution", "downsample_after", "downsampled_resolution"):
            if self._seconds(key) < 1:
                raise InvalidObjectError(f"telemetry.{key}", "must be at least 1s")
        if self._seconds("downsampled_resolution") < self._seconds("metrics_resolution"):
            raise InvalidObjectError(
                "telemetry.downsampled_resolution", "must not be finer than metrics_resolution"
            )

    def _bytes(self, key: str) -> int:
        return int(_parsed(f"telemetry.{key}", getattr(self, key), parse_quantity))

    def _seconds(self, key: str) -> float:
        return _parsed(f"telemetry.{key}", getattr(self, key), parse_duration)

    @property
    def budgets(self) -> dict[str, int]:
        """The bytes that each class of the spool may hold."""
        return {"logs": self._bytes("logs_budget"), "metrics": self._bytes("metrics_budget")}

    @property
    def drain_bytes(self) -> int:
        """``drain_rate`` as a number."""
        return self._bytes("drain_rate")

    @property
    def resolution_seconds(self) -> float:
        """``metrics_resolution`` as a number."""
        return self._seconds("metrics_resolution")

    @property
    def downsample_after_seconds(self) -> float:
        """``downsample_after`` as a number."""
        return self._seconds("downsample_after")

    @property
    def downsampled_seconds(self) -> float:
        """``downsampled_resolution`` as a number."""
        return self._seconds("downsampled_resolution")


DEFAULT_HARD: Mapping[str, str] = {
    "memory.available": "5%, 100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
    "pid.available": "10%",
}
"""kubelet's, but for two. Its 100Mi of memory are two fifths of a board with 256 MiB, which would be under
pressure for ever, so 5% where that is less. For process ids it has none, but a small board has 2,000.
"""


class EvictionSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[eviction]``, in kubelet's words: ``evictionHard``, ``evictionSoft`` and so on.

    The tables map a signal, in quotes (``"memory.available"``), to a quantity, a percentage of the
    capacity, or both with a comma for the smaller of them. What ``hard`` does not name keeps its default;
    ``0%`` or ``100%`` turns a signal off. Each signal in ``soft`` needs a duration in ``soft_grace_period``.
    ``max_pod_grace_period`` is in seconds, 0 for each pod's own.
    https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
    """

    hard: dict[str, str] = {}
    soft: dict[str, str] = {}
    soft_grace_period: dict[str, str] = {}
    minimum_reclaim: dict[str, str] = {}
    max_pod_grace_period: Annotated[int, msgspec.Meta(ge=0)] = 0
    pressure_transition_period: str = "5m"

    def __post_init__(self) -> None:
        """InvalidObjectError that names the first key that is wrong."""
        self.thresholds()
        self.transition_seconds  # noqa: B018 - asked for its error

    def thresholds(self) -> tuple[Threshold, ...]:
        """All that are in force."""
        hard = _by_signal("eviction.hard", {**DEFAULT_HARD, **self.hard}, parse_amount)
        soft = _by_signal("eviction.soft", self.soft, parse_amount)
        grace = _by_signal("eviction.soft_grace_period", self.soft_grace_period, parse_duration)
        reclaim = _by_signal("eviction.minimum_reclaim", self.minimum_reclaim, parse_amount)
        for one, others, problem in ((soft, grace, "no duration"), (grace, soft, "no threshold in soft")):
            if missing := sorted(one.keys() - others.keys()):
                path = f'eviction.soft_grace_period."{missing[0]}"'
                raise InvalidObjectError(path, f"there is {problem} for this signal")
        return tuple(
            Threshold(
                signal,
                amount,
                hard=amounts is hard,
                grace_seconds=0.0 if amounts is hard else grace[signal],
                minimum_reclaim=reclaim.get(signal, NOTHING),
            )
            for amounts in (hard, soft)
            for signal, amount in amounts.items()
            if not _is_off(amount)
        )

    @property
    def transition_seconds(self) -> float:
        """``pressure_transition_period`` as a number."""
        path = "eviction.pressure_transition_period"
        return _parsed(path, self.pressure_transition_period, parse_duration)


MIN_BANDWIDTH = 16_384
"""Bytes a second: a full packet of a stream takes less than two seconds."""


class RemoteSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[remote]``: streams of operators through the broker (logs, commands, ports). All of them together
    send no more than ``bandwidth`` bytes a second; of one operator there are at most
    ``max_streams_per_operator``.
    """

    bandwidth: str = "1Mi"
    max_streams: Annotated[int, msgspec.Meta(ge=0, le=256)] = 16
    max_streams_per_operator: Annotated[int, msgspec.Meta(ge=0, le=256)] = 8

    def __post_init__(self) -> None:
        """InvalidObjectError where ``bandwidth`` is no useful one."""
        if self.bytes_per_second < MIN_BANDWIDTH:
            raise InvalidObjectError(
                "remote.bandwidth",
                f"is {self.bandwidth}, in bytes a second; must be at least {MIN_BANDWIDTH // 1024}Ki: a"
                " packet of a stream has up to 24Ki, and its turn would come too late. To have no streams,"
                " set max_streams to 0",
            )

    @property
    def bytes_per_second(self) -> int:
        """``bandwidth`` as a number."""
        return int(_parsed("remote.bandwidth", self.bandwidth, parse_quantity))


def _is_off(amount: Amount) -> bool:
    return amount.of(1.0) == 0 or (amount.quantity is None and amount.fraction == 1)


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``plugins`` holds one section a plugin, validated by the plugin's own schema."""

    agent: AgentSection = AgentSection()
    identity: IdentitySection = IdentitySection()
    mqtt: MqttSection = MqttSection()
    pods: PodsSection = PodsSection()
    eviction: EvictionSection = EvictionSection()
    images: ImagesSection = ImagesSection()
    logs: LogsSection = LogsSection()
    telemetry: TelemetrySection = TelemetrySection()
    remote: RemoteSection = RemoteSection()
    plugins: dict[str, dict[str, object]] = {}

    @property
    def state_dir(self) -> Path:
        """Where the store and the identity lie."""
        return Path(self.agent.state_dir)

    @property
    def run_dir(self) -> Path:
        """Where the local socket lies."""
        return Path(self.agent.run_dir)


def load_config(path: Path, *, required: bool) -> AgentConfig:
    """The file as a checked config; the defaults where there is no file and it is not ``required``.

    PermanentError names file, and key or line, of what is wrong.
    """
    import tomllib

    try:
        text = path.read_text()
    except FileNotFoundError:
        if required:
            raise PermanentError(f"{path} does not exist") from None
        return AgentConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{path} cannot be read: {error}") from None
    try:
        return convert(tomllib.loads(text), AgentConfig)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PermanentError(f"{path}: {error}") from None
    except InvalidObjectError as error:
        raise PermanentError(f"{path}: {error}") from None
