"""The plugins' protocols as the core calls them: asynchronous, typed, each call with a deadline.

A deadline here is the last resort against a call that hangs. It is longer than what a plugin's own time-outs
should allow, for running into it costs the plugin its thread or process.
"""

from typing import cast

from edgeagent.api.admission import AdmissionRequest, Review
from edgeagent.api.errors import TemporaryError
from edgeagent.api.facts import Facts
from edgeagent.api.network import Attachment, NetworkReport, NetworkState, PodSandbox, Rows
from edgeagent.api.objects.config import SealedSecret, Secret
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.service import Protocol as Transport
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
from edgeagent.node.plugins.contract import ADMISSION, NETWORK, NODE_FACTS, RUNTIME, SECRETS, SERVICE
from edgeagent.node.plugins.hosted import HostedPlugin

ANSWER_SECONDS = 60.0
WORK_SECONDS = 120.0
PULL_SECONDS = 4 * 3600.0
"""A large image over a thin line takes hours."""


class Facade:
    """One hook of one plugin."""

    hook: str

    def __init__(self, plugin: HostedPlugin) -> None:
        self._plugin = plugin

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return self._plugin.name

    def warm(self) -> None:
        """Make the plugin's lane ready for a call that is about to come."""
        if self._plugin.health.state in ("Loaded", "Running"):
            self._plugin.lane.warm()

    async def _ask(self, method: str, *args: object, deadline: float = ANSWER_SECONDS) -> object:
        return await self._plugin.call(self.hook, method, args, deadline=deadline)


class RuntimeFacade(Facade):
    """``edgeagent.api.runtime.ContainerRuntime``."""

    hook = RUNTIME

    async def info(self) -> RuntimeInfo:
        """What the runtime is."""
        return cast(RuntimeInfo, await self._ask("info"))

    async def list_containers(self) -> list[ContainerRecord]:
        """All containers of pods, in any state."""
        return cast(list[ContainerRecord], await self._ask("list_containers"))

    async def find_image(self, reference: str) -> Image | None:
        """The image named ``reference``, if it is on this node."""
        return cast(Image | None, await self._ask("find_image", reference))

    async def pull_image(self, reference: str, credentials: PullCredentials | None) -> Image:
        """Fetch ``reference`` from its registry."""
        return cast(Image, await self._ask("pull_image", reference, credentials, deadline=PULL_SECONDS))

    async def create_container(self, config: ContainerConfig) -> ContainerRecord:
        """Make a container, not started."""
        return cast(ContainerRecord, await self._ask("create_container", config, deadline=WORK_SECONDS))

    async def start_container(self, container_id: str) -> ContainerRecord:
        """Start a created container."""
        return cast(ContainerRecord, await self._ask("start_container", container_id, deadline=WORK_SECONDS))

    async def signal_container(self, container_id: str) -> ContainerRecord:
        """Ask a container to end, without waiting for it."""
        return cast(ContainerRecord, await self._ask("signal_container", container_id))

    async def stop_container(self, container_id: str, grace_seconds: int) -> ContainerRecord:
        """Stop a container, by force after ``grace_seconds``."""
        deadline = max(grace_seconds, 0) + ANSWER_SECONDS
        return cast(
            ContainerRecord, await self._ask("stop_container", container_id, grace_seconds, deadline=deadline)
        )

    async def exec_container(
        self, container_id: str, command: list[str], timeout_seconds: float
    ) -> ExecResult:
        """Run a command in a container, for at most ``timeout_seconds``."""
        deadline = timeout_seconds + ANSWER_SECONDS
        return cast(
            ExecResult,
            await self._ask("exec_container", container_id, command, timeout_seconds, deadline=deadline),
        )

    async def start_exec(self, container_id: str, options: ExecOptions) -> ExecSession:
        """Run a command with somebody at the other end; the caller owns the session's descriptor."""
        return cast(ExecSession, await self._ask("start_exec", container_id, options))

    async def resize_exec(self, session_id: str, columns: int, rows: int) -> None:
        """Tell the command's terminal its new size."""
        await self._ask("resize_exec", session_id, columns, rows)

    async def signal_exec(self, session_id: str, number: int) -> None:
        """Send a signal to the command."""
        await self._ask("signal_exec", session_id, number)

    async def exec_exit_code(self, session_id: str) -> int:
        """The exit code of a command whose output has ended."""
        return cast(int, await self._ask("exec_exit_code", session_id))

    async def reopen_log(self, container_id: str) -> None:
        """Go on writing to a new log file."""
        await self._ask("reopen_log", container_id)

    async def list_images(self) -> list[ImageRecord]:
        """All images on this node."""
        return cast(list[ImageRecord], await self._ask("list_images"))

    async def remove_image(self, image_id: str) -> None:
        """Remove an image with all its names."""
        await self._ask("remove_image", image_id, deadline=WORK_SECONDS)

    async def storage_path(self) -> str:
        """A folder on the file system that holds images and writable layers."""
        return cast(str, await self._ask("storage_path"))

    async def container_sizes(self) -> dict[str, int]:
        """The bytes that each container has written, by id."""
        return cast(dict[str, int], await self._ask("container_sizes", deadline=WORK_SECONDS))

    async def wait_container(self, container_id: str) -> ContainerRecord:
        """The record of a container whose main process has just ended."""
        return cast(ContainerRecord, await self._ask("wait_container", container_id))

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, by force if it runs."""
        await self._ask("remove_container", container_id, deadline=WORK_SECONDS)


class NetworkFacade(Facade):
    """``edgeagent.api.network.Network``."""

    hook = NETWORK

    async def attach(self, pod: PodSandbox) -> Attachment:
        """The pod's namespace and addresses."""
        return cast(Attachment, await self._ask("attach", pod))

    async def detach(self, pod: PodSandbox) -> None:
        """Give back what ``attach`` made."""
        await self._ask("detach", pod)

    async def reconcile(self, state: NetworkState) -> NetworkReport:
        """Make the node's network as ``state`` says."""
        return cast(NetworkReport, await self._ask("reconcile", state, deadline=WORK_SECONDS))

    async def show(self, what: Rows) -> list[dict[str, str]]:
        """What is in force, with its counters."""
        return cast(list[dict[str, str]], await self._ask("show", what))

    async def trace(self, source: str, target: str, port: int, protocol: Transport) -> list[str]:
        """The way of a new connection, a step a line."""
        return cast(list[str], await self._ask("trace", source, target, port, protocol))


class AdmissionFacade(Facade):
    """``edgeagent.api.admission.Admission``."""

    hook = ADMISSION

    async def mutate(self, pod: Pod, request: AdmissionRequest) -> Pod:
        """The pod as it should run."""
        return cast(Pod, await self._ask("mutate", pod, request))

    async def review(self, pod: Pod, request: AdmissionRequest) -> Review:
        """What forbids the pod to run."""
        return cast(Review, await self._ask("review", pod, request))


class MissingAdmission(AdmissionFacade):
    """In place of an admission plugin that must be asked and could not be loaded; ``reason``: why not."""

    def __init__(self, name: str, reason: str) -> None:
        self._name = name
        self._reason = reason

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return self._name

    async def _ask(self, method: str, *args: object, deadline: float = ANSWER_SECONDS) -> object:
        del method, args, deadline
        raise TemporaryError(f"it is not used: {self._reason}", reason="PluginFailed")


class UnsealerFacade(Facade):
    """``edgeagent.api.secrets.Unsealer``."""

    hook = SECRETS

    async def unseal(self, sealed: SealedSecret) -> Secret:
        """The Secret in clear."""
        return cast(Secret, await self._ask("unseal", sealed))

    async def unseal_stream(self, sealed: bytes, context: bytes) -> bytes:
        """The key of a stream, with what is private of its call."""
        return cast(bytes, await self._ask("unseal_stream", sealed, context))


class NodeFactsFacade(Facade):
    """``edgeagent.api.facts.NodeFacts``."""

    hook = NODE_FACTS

    async def facts(self) -> Facts:
        """The facts as they are now."""
        return cast(Facts, await self._ask("facts"))


class ServiceFacade(Facade):
    """``edgeagent.api.service.Service``. The host supervises services itself; this is for tests of one."""

    hook = SERVICE

    async def start(self) -> None:
        """Begin."""
        await self._ask("start")

    async def stop(self) -> None:
        """End."""
        await self._ask("stop")
