"""ContainerRuntime: what a runtime plugin answers with. The pod lifecycle is built on this alone.

Shaped after the CRI (https://kubernetes.io/docs/concepts/containers/cri/), without its pod sandbox:
containers are single and carry labels, and the core groups them.
"""

from typing import Literal, Protocol

from edgeagent.api.descriptors import DescriptorHolder
from edgeagent.api.objects.base import KubernetesStruct

LABEL_POD_UID = "io.edgeagent.pod.uid"
LABEL_POD_NAME = "io.edgeagent.pod.name"
LABEL_POD_NAMESPACE = "io.edgeagent.pod.namespace"
LABEL_CONTAINER = "io.edgeagent.container"
LABEL_ATTEMPT = "io.edgeagent.attempt"
LABEL_SPEC_HASH = "io.edgeagent.spec-hash"
LABEL_STATIC = "io.edgeagent.pod.static"
"""On containers of pods that come from the node's own folder."""
LABEL_PAUSE = "io.edgeagent.pause"
"""On containers that have joined the process namespace of another one: its id."""


class PullCredentials(KubernetesStruct, frozen=True):
    """User and password for a registry."""

    username: str
    password: str


class Image(KubernetesStruct, frozen=True):
    """An image that is present. ``id`` is its content digest, ``reference`` the name it was asked by.

    ``user`` is what its configuration says, as it stands there: empty, a name or a number, with or without
    ``:group``.
    """

    id: str
    reference: str
    user: str = ""


class ImageRecord(KubernetesStruct, frozen=True):
    """An image in the list of all. ``references``: its tags and digests; ``size`` in bytes.

    ``created_at`` is when it came to this node where the runtime knows it, else when it was built.
    """

    id: str
    references: list[str]
    size: int = 0
    created_at: float = 0


class Mount(KubernetesStruct, frozen=True):
    """A file or folder of the node (``source``) that a container sees at ``destination``."""

    source: str
    destination: str
    read_only: bool = False
    propagation: Literal["private", "rslave", "rshared"] = "private"


class ContainerSecurity(KubernetesStruct, frozen=True):
    """What a container may do, wholly resolved. The defaults are the runtime's own.

    ``user`` is ``uid``, ``uid:gid``, or empty for the image's. Capabilities are without ``CAP_``; ``ALL``
    is allowed. ``seccomp_profile`` and ``apparmor_profile``: empty for the runtime's default,
    ``unconfined``, or the path of a profile on the node (seccomp) or its name (AppArmor).
    ``selinux_options``: ``user``, ``role``, ``type`` and ``level``, as far as they are set.
    """

    user: str = ""
    supplemental_groups: list[int] = []
    strict_groups: bool = False
    """Whether the groups that the image's ``/etc/group`` gives the user are left out."""
    privileged: bool = False
    add_capabilities: list[str] = []
    drop_capabilities: list[str] = []
    no_new_privileges: bool = False
    read_only_root: bool = False
    seccomp_profile: str = ""
    apparmor_profile: str = ""
    selinux_options: dict[str, str] = {}
    unmasked_proc: bool = False


class ExecResult(KubernetesStruct, frozen=True):
    """What became of a command in a container. ``output`` is stdout and stderr, as it came, cut at 10 KiB.

    ``timed_out``: it was still running when its time was up; it was ended, and ``exit_code`` means nothing.
    """

    exit_code: int
    output: bytes = b""
    timed_out: bool = False


class ExecOptions(KubernetesStruct, frozen=True):
    """A command to run in a container with somebody at the other end.

    ``stdin``: whether it is to be given input; without, it reads an empty one. ``tty``: whether it has a
    terminal, of ``columns`` and ``rows`` (0: the runtime's default), which mixes stderr into stdout.
    """

    command: list[str]
    stdin: bool = False
    tty: bool = False
    columns: int = 0
    rows: int = 0


class ExecSession(DescriptorHolder, frozen=True, kw_only=True):
    """A command that was started. ``id`` names it to the runtime for as long as the container runs.

    ``descriptor`` is a connected stream socket. What is written to it is the command's input, and ended with
    shutdown(2); what is read is its output, whose end is that of the command, or that of all who hold its
    output. By ``framing``, this is ``raw``, or ``multiplexed``: a byte for the stream (1 stdout, 2 stderr,
    3 an error of the runtime's), three zeros, the payload's length as a big-endian number of 32 bits, the
    payload. (As Docker has it: https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Container/
    operation/ContainerAttach.)
    """

    id: str
    framing: Literal["raw", "multiplexed"]


class ContainerConfig(KubernetesStruct, frozen=True):
    """One container to create. ``name`` is unique on the node; everything is resolved, nothing looked up.

    ``command`` replaces the image's entry point and ``args`` its arguments; None keeps the image's.
    ``cpu_limit`` is in cores (0 for none), ``cpu_request`` in cores, ``memory_limit`` in bytes (0 for none),
    ``pids_limit`` in processes and threads (0 for the runtime's default). ``oom_score_adj`` as in proc(5).
    ``network`` is ``host`` or the path of a network namespace to join, ``ipc_namespace`` and
    ``pid_namespace`` are ``private``, ``host`` or such a path, or ``container:<id>``.
    ``stop_signal`` (``SIGTERM``) replaces the image's where it is not empty.
    A ``pause`` container has no image: it does nothing but hold its namespaces and reap orphans.
    """

    name: str
    image: str
    labels: dict[str, str]
    hostname: str = ""
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str = ""
    env: dict[str, str] = {}
    cpu_limit: float = 0
    cpu_request: float = 0
    memory_limit: int = 0
    network: str = "host"
    stop_timeout: int = 30
    stop_signal: str = ""
    mounts: list[Mount] = []
    security: ContainerSecurity = ContainerSecurity()
    sysctls: dict[str, str] = {}
    ipc_namespace: str = "private"
    pid_namespace: str = "private"
    pids_limit: int = 0
    oom_score_adj: int = 0
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    pause: bool = False


class ContainerRecord(KubernetesStruct, frozen=True):
    """A container as the runtime knows it now. Times are seconds since the epoch, 0 for "not yet".

    ``pid`` is the main process in the host's pid namespace, 0 unless running. ``exit_code`` has a
    meaning only in state ``exited``. ``log_path`` is the file that the runtime writes its output to,
    in CRI's log format (``<time> <stream> <F|P> <text>``).
    """

    id: str
    name: str
    image: str
    labels: dict[str, str]
    state: Literal["created", "running", "exited", "unknown"]
    image_id: str = ""
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    created_at: float = 0
    started_at: float = 0
    finished_at: float = 0
    log_path: str = ""


class RuntimeInfo(KubernetesStruct, frozen=True):
    """Name and version of the runtime, as ``containerRuntimeVersion`` shows it (``podman://5.4.2``)."""

    name: str
    version: str


class ContainerRuntime(Protocol):
    """Creates, starts, stops and lists containers. Synchronous: the core calls it in the plugin's lane.

    Every method may raise TemporaryError or PermanentError; anything else counts as temporary. Every
    method may be called again after a crash between it and its answer: creating a container whose
    ``name`` exists returns that container, starting a running one and removing an absent one succeed.
    """

    def info(self) -> RuntimeInfo:
        """What the runtime is."""

    def list_containers(self) -> list[ContainerRecord]:
        """All containers that carry ``LABEL_POD_UID``, in any state."""

    def find_image(self, reference: str) -> Image | None:
        """The image named ``reference``, or None where it is not on this node."""

    def pull_image(self, reference: str, credentials: PullCredentials | None) -> Image:
        """Fetch ``reference`` from its registry."""

    def create_container(self, config: ContainerConfig) -> ContainerRecord:
        """Make a container, not started. PermanentError where the config itself cannot work.

        Its reason is ``ImageNotPresent`` where the image is not on this node: the core then pulls it.
        """

    def start_container(self, container_id: str) -> ContainerRecord:
        """Start a created container. PermanentError where its command cannot be executed."""

    def signal_container(self, container_id: str) -> ContainerRecord:
        """Send SIGTERM (or the stop signal of the config or the image), and wait for nothing.

        The record is that from before: still running, most often. Where the container does not run, nothing
        is sent; one that is not there any more gives a record in state ``unknown``.
        """

    def stop_container(self, container_id: str, grace_seconds: int) -> ContainerRecord:
        """SIGTERM (or the image's stop signal), then SIGKILL after the grace period; returns once it ended.

        A container that is not there any more gives a record in state ``unknown``.
        """

    def exec_container(self, container_id: str, command: list[str], timeout_seconds: float) -> ExecResult:
        """Run a command in a running container to its end, at most for ``timeout_seconds``.

        PermanentError (reason ``ExecError``) where it cannot be executed, TemporaryError (reason
        ``ContainerNotRunning``) where the container has ended.
        """

    def start_exec(self, container_id: str, options: ExecOptions) -> ExecSession:
        """Run a command in a running container, and return as soon as it is under way. Errors as above.

        A command that cannot be executed may only show in its output and exit code.
        """

    def resize_exec(self, session_id: str, columns: int, rows: int) -> None:
        """Tell the command's terminal its new size; succeeds where the command has ended."""

    def signal_exec(self, session_id: str, number: int) -> None:
        """Send a signal to the command and its process group; succeeds where it has ended."""

    def exec_exit_code(self, session_id: str) -> int:
        """The exit code of a command whose output has ended; 128 and the signal where that ended it.

        The session is forgotten. TemporaryError with reason ``ContainerNotRunning`` where the container went
        with it, ``CommandRuns`` where it has closed its output and runs on.
        """

    def reopen_log(self, container_id: str) -> None:
        """Go on writing the container's output to a new file at its ``log_path``: the old one was renamed."""

    def list_images(self) -> list[ImageRecord]:
        """All images on this node."""

    def remove_image(self, image_id: str) -> None:
        """Remove an image with all its names; succeeds where it is gone. TemporaryError while it is used."""

    def storage_path(self) -> str:
        """A folder on the file system that holds images and writable layers."""

    def container_sizes(self) -> dict[str, int]:
        """By id, the bytes that each container has written outside its mounts."""

    def wait_container(self, container_id: str) -> ContainerRecord:
        """The record of a container whose main process has just ended, once its exit code is known."""

    def remove_container(self, container_id: str) -> None:
        """Remove a container and its writable layer and log, by force if it runs."""
