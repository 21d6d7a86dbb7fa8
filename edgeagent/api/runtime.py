"""ContainerRuntime: what a runtime plugin answers with. The pod lifecycle is built on this alone.

Shaped after the CRI (https://kubernetes.io/docs/concepts/containers/cri/), without its pod sandbox:
containers are single and carry labels, and the core groups them.
"""

from typing import Literal, Protocol

from edgeagent.api.objects.base import KubernetesStruct

LABEL_POD_UID = "io.edgeagent.pod.uid"
LABEL_POD_NAME = "io.edgeagent.pod.name"
LABEL_POD_NAMESPACE = "io.edgeagent.pod.namespace"
LABEL_CONTAINER = "io.edgeagent.container"
LABEL_ATTEMPT = "io.edgeagent.attempt"
LABEL_SPEC_HASH = "io.edgeagent.spec-hash"


class PullCredentials(KubernetesStruct, frozen=True):
    """User and password for a registry."""

    username: str
    password: str


class Image(KubernetesStruct, frozen=True):
    """An image that is present. ``id`` is its content digest, ``reference`` the name it was asked by."""

    id: str
    reference: str


class ContainerConfig(KubernetesStruct, frozen=True):
    """One container to create. ``name`` is unique on the node; everything is resolved, nothing looked up.

    ``command`` replaces the image's entry point and ``args`` its arguments; None keeps the image's.
    ``cpu_limit`` is in cores (0 for none), ``cpu_request`` in cores, ``memory_limit`` in bytes (0 for none).
    ``network`` is ``host`` or the path of a network namespace to join.
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

    def stop_container(self, container_id: str, grace_seconds: int) -> ContainerRecord:
        """SIGTERM (or the image's stop signal), then SIGKILL after the grace period; returns once it ended.

        A container that is not there any more gives a record in state ``unknown``.
        """

    def wait_container(self, container_id: str) -> ContainerRecord:
        """The record of a container whose main process has just ended, once its exit code is known."""

    def remove_container(self, container_id: str) -> None:
        """Remove a container and its writable layer and log, by force if it runs."""
