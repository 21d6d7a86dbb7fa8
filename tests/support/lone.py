"""A lone agent: ``edgeagent run`` with no hub, on a real Podman, given its pods by files in a folder.

Made for many tests on one agent: a pod costs a file. ``LoneAgent`` is started once a session (or a module);
each test writes its manifests under names of its own and removes them, best by ``running``.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import netns_plugin
from tests.support.cluster import AgentProcess, Seen, containers, program, within
from tests.support.leftovers import Snapshot, leftovers, snapshot
from tests.support.podman import BUSYBOX_TAG, PodmanService
from tests.support.proc import Process
from tests.support.waiting import WaitTimeout, wait_for

Manifest = Mapping[str, object]
POLL_SECONDS = 0.05
TABLES = ("desired", "object", "pod_record", "admitted")
"""What must be empty when no pod is left. Events stay in the outbox, for a hub that may come one day."""
_ROOT = Path(__file__).resolve().parents[2]


class LoneAgent:
    """The agent, its folder of manifests, and its Podman. As a context: started, and ended with its pods.

    ``extra`` is TOML after the sections ``[agent]`` and ``[pods]`` (keys of ``[pods]`` may come first).
    The plugins of this machine's own network and ports are off, unless ``extra`` has their sections.
    ``namespace``: the network namespace of ip-netns(8) that is the agent's host, empty for the machine's own.
    ``network``: whether pods without ``hostNetwork`` have one (see ``tests.support.netns_plugin``).
    """

    def __init__(
        self,
        directory: Path,
        podman: PodmanService,
        *,
        extra: str = "",
        network: bool = True,
        name: str = "lone",
        namespace: str = "",
    ) -> None:
        self.directory = directory
        self.podman = podman
        self.folder = directory / "manifests"
        self.state_dir = directory / "state"
        self.run_dir = podman.directory / f"run-{name}"
        self.third = os.getpid() % 254 + 1
        directory.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        site = directory / "site"
        netns_plugin.install(site)
        plugin = f"third = {self.third}" if network else "enabled = false"
        off = "".join(
            f"[plugins.{name}]\nenabled = false\n"
            for name in ("metrics", "network")
            if f"[plugins.{name}]" not in extra
        )
        (directory / "config.toml").write_text(
            f'[agent]\nstate_dir = "{self.state_dir}"\nrun_dir = "{self.run_dir}"\nlog_level = "debug"\n'
            f'[plugins.podman]\nsocket = "{podman.socket}"\n[plugins.{netns_plugin.NAME}]\n{plugin}\n{off}'
            f'[pods]\nstatic_pod_path = "{self.folder}"\n{extra}'
        )
        path = os.pathsep.join(filter(None, [str(site), str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        process = Process(
            within(namespace, program("edgeagent", "--config", directory / "config.toml", "run")),
            log=directory / "agent.log",
            env={**os.environ, "PYTHONPATH": path},
        )
        self.agent = AgentProcess(name, directory, process)
        self._node = ""
        self._before: Snapshot | None = None

    def __enter__(self) -> Self:
        self.start()
        self.mark()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The process

    def start(self) -> None:
        """Start it, and wait until its local socket answers."""
        self.agent.process.start()
        self.agent.process.wait_until(lambda: self.read("/edge/v1/status"), what="answering")

    def restart(self, *, kill: bool = False) -> None:
        """End it, by SIGTERM or (``kill``) SIGKILL, and start it again. Containers go on running."""
        if kill:
            self.agent.process.kill()
        else:
            self.agent.process.terminate()
        self.start()

    def close(self) -> None:
        """Take down all pods, end the agent, and remove what it may have left."""
        try:
            if self.agent.process.running:
                self.clear()
        finally:
            self.agent.process.terminate()
            for name in netns_plugin.namespaces(self.third):
                netns_plugin.remove_namespace(name)

    # The folder

    def write(self, name: str, manifest: Manifest | Sequence[Manifest] | str, *, suffix: str = "") -> Path:
        """Put ``name`` into the folder, whole at once: one object, several, or text (YAML where not said)."""
        if isinstance(manifest, str):
            path = self.folder / f"{name}{suffix or '.yaml'}"
            text = manifest
        else:
            path = self.folder / f"{name}{suffix or '.json'}"
            listed = manifest if isinstance(manifest, Mapping) else _list(manifest)
            text = json.dumps(listed)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text)
        partial.rename(path)
        return path

    def remove(self, name: str) -> None:
        """Take the file ``name`` (of any suffix) out of the folder."""
        for path in self.folder.glob(f"{name}.*"):
            path.unlink()

    def clear(self, timeout: float = 60.0) -> None:
        """Empty the folder, and wait until no pod and no container is left."""
        for path in self.folder.iterdir():
            path.unlink()
        wait_for(
            lambda: not self.pods() and not containers(self.podman),
            timeout,
            "all pods to be gone",
            interval=POLL_SECONDS,
        )

    @contextmanager
    def running(
        self,
        manifest: Manifest,
        *others: Manifest,
        until: Callable[[dict[str, Any]], object] | None = None,
        timeout: float = 30.0,
    ) -> Iterator[dict[str, Any]]:
        """The pod ``manifest``, with ``others`` before it in the same file, for as long as the block is.

        Yields the pod once ``until`` holds of it, by default once it is Running. It is gone afterwards.
        """
        meta = _metadata(manifest)
        name, namespace = str(meta["name"]), str(meta.get("namespace", "default"))
        file = f"{namespace}.{name}"
        self.write(file, [*others, manifest])
        try:
            yield self.wait_status(name, until or is_running, namespace=namespace, timeout=timeout)
        finally:
            self.remove(file)
            self.wait_gone(name, namespace=namespace)

    # What the node says

    @property
    def node(self) -> str:
        """The node's name, which the names of static pods end with."""
        if not self._node:
            self._node = str(self.read("/edge/v1/status")["node"])
        return self._node

    def read(self, path: str) -> Any:
        """The JSON behind a path of the local API; None where there is no answer."""
        return self.agent.read(path)

    def full_name(self, name: str) -> str:
        """The name that the pod of a manifest with this name has on the node."""
        return f"{name}-{self.node}"

    def pods(self) -> list[dict[str, Any]]:
        """All pods of the node."""
        found: list[dict[str, Any]] = (self.read("/api/v1/pods") or {"items": []})["items"]
        return found

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """The pod of the manifest ``name``; empty where there is none."""
        return self.agent.pod(self.full_name(name), namespace)

    def status(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """Its status; empty where there is none."""
        found: dict[str, Any] = self.pod(name, namespace).get("status", {})
        return found

    def wait_status(
        self,
        name: str,
        predicate: Callable[[dict[str, Any]], object],
        *,
        namespace: str = "default",
        timeout: float = 30.0,
        what: str = "the pod to be as expected",
    ) -> dict[str, Any]:
        """Wait until ``predicate`` holds of the pod's status, and return the whole pod."""
        pod: dict[str, Any] = {}

        def holds() -> bool:
            pod.clear()
            pod.update(self.pod(name, namespace))
            return bool(pod and predicate(pod.get("status", {})))

        try:
            wait_for(holds, timeout, what, interval=POLL_SECONDS)
        except WaitTimeout as error:
            events = [f"{e['reason']}: {e.get('message', '')}" for e in self.events(name, namespace)]
            raise WaitTimeout(
                f"{error}\nstatus: {json.dumps(pod.get('status'))}\nevents: {events}\n"
                f"problems: {self.problems()}\n{self.agent.process.tail(15)}"
            ) from None
        return dict(pod)

    def wait_gone(self, name: str, *, namespace: str = "default", timeout: float = 30.0) -> None:
        """Wait until the node neither knows the pod nor holds anything of it."""
        full = self.full_name(name)
        wait_for(
            lambda: not self.pod(name, namespace) and not self._containers(full),
            timeout,
            f"pod {namespace}/{name} to be gone",
            interval=POLL_SECONDS,
        )

    def events(self, name: str = "", namespace: str = "default") -> list[dict[str, Any]]:
        """The last events of the manifest's pod; without a name, of everything."""
        found: list[dict[str, Any]] = (self.read("/api/v1/events") or {"items": []})["items"]
        if not name:
            return found
        wanted = (namespace, self.full_name(name))
        about = [(e["involvedObject"].get("namespace", ""), e["involvedObject"]["name"]) for e in found]
        return [event for event, key in zip(found, about, strict=True) if key == wanted]

    def problems(self) -> dict[str, str]:
        """What is wrong in the folder, by path."""
        found: dict[str, str] = ((self.read("/edge/v1/status") or {}).get("staticPods") or {}).get(
            "problems", {}
        )
        return found

    def refuses(self, manifest: Manifest, place: str) -> None:
        """Wait until the node says that the manifest is wrong at ``place``; it runs nothing of it."""
        name = str(_metadata(manifest)["name"])
        path = str(self.write(name, manifest))
        try:
            wait_for(
                lambda: f": {place}: " in self.problems().get(path, ""),
                10,
                f"a problem at {place}",
                interval=POLL_SECONDS,
            )
            assert not self.pod(name)
        finally:
            self.remove(name)
        wait_for(lambda: path not in self.problems(), 10, "no problem", interval=POLL_SECONDS)

    # What Podman says, without the agent's help

    def container(self, pod: str, container: str = "main") -> Seen:
        """The newest container of that name in the manifest's pod; it must be there."""
        found = [seen for seen in self._containers(self.full_name(pod)) if seen.container == container]
        assert found, f"pod {pod} has no container {container}"
        return max(found, key=lambda seen: (seen.started_at, seen.state == "running"))

    def inspect(self, pod: str, container: str = "main") -> dict[str, Any]:
        """``podman inspect`` of it."""
        (found,) = json.loads(self.podman.run("inspect", self.container(pod, container).id).stdout)
        return dict(found)

    def exec(
        self, pod: str, *command: str, container: str = "main", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``podman exec`` in it."""
        return self.podman.run("exec", self.container(pod, container).id, *command, check=check)

    def logs(self, pod: str, container: str = "main") -> str:
        """What it wrote, as the agent gives it."""
        return self.agent.run("logs", self.full_name(pod), "-c", container).stdout

    def _containers(self, full_name: str) -> list[Seen]:
        return [seen for seen in containers(self.podman) if seen.pod == full_name]

    # What is left

    def snapshot(self) -> Snapshot:
        """What there is of the agent now."""
        pid = self.agent.process.pid
        assert pid is not None
        folders = [self.state_dir / "pods", self.run_dir / "pods"]
        return snapshot(pid, self.podman, folders=folders, database=self.state_dir / "agent.db")

    def mark(self) -> None:
        """What there is from here on is what ``leftovers`` is compared with."""
        self._before = self.snapshot()

    def assert_nothing_left(self) -> None:
        """Wait until what the last pods had is given back; then nothing may be left."""
        left: list[str] = []

        def nothing() -> bool:
            left[:] = self.leftovers()
            return not left

        with contextlib.suppress(WaitTimeout):
            wait_for(nothing, 20, "nothing to be left")
        assert left == []

    def leftovers(self, tables: Collection[str] = TABLES, spare_threads: int = 4) -> list[str]:
        """What is there that was not when the agent was new, a line each; call it once all pods are gone."""
        assert self._before is not None
        found = leftovers(self._before, self.snapshot(), tables=tables, spare_threads=spare_threads)
        return [*found, *(f"network namespace {name}" for name in netns_plugin.namespaces(self.third))]


def is_running(status: Mapping[str, Any]) -> bool:
    """Whether all containers of a pod run."""
    statuses = status.get("containerStatuses", [])
    return status.get("phase") == "Running" and all("running" in one["state"] for one in statuses)


def has_ended(status: Mapping[str, Any]) -> bool:
    """Whether a pod has ended for good."""
    return status.get("phase") in ("Succeeded", "Failed")


def has_phase(phase: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a pod is in this phase."""
    return lambda status: status.get("phase") == phase


def static_pod(
    name: str,
    *commands: Sequence[str],
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    container: Mapping[str, object] | None = None,
    **spec: object,
) -> dict[str, Any]:
    """A manifest of a pod that stops at once when told, on the host's network if ``spec`` says no other.

    A container for each of ``commands`` (``main``, ``c1``, ``c2``…; without any, one that sleeps);
    ``container`` is added to each, ``spec`` to the pod's spec.
    """
    wanted = commands or (["sleep", "3600"],)
    listed = [
        {
            "name": f"c{number}" if number else "main",
            "image": BUSYBOX_TAG,
            "command": list(command),
            **(container or {}),
        }
        for number, command in enumerate(wanted)
    ]
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in metadata.items() if value},
        "spec": {
            "hostNetwork": True,
            "terminationGracePeriodSeconds": 0,
            "containers": listed,
            **spec,
        },
    }


def config_map(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    """A manifest of a ConfigMap."""
    return _data("ConfigMap", name, namespace, data=data)


def secret(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    """A manifest of a Secret."""
    return _data("Secret", name, namespace, stringData=data)


def _data(kind: str, name: str, namespace: str, **fields: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **fields}


def _list(items: Sequence[Manifest]) -> Manifest:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def _metadata(manifest: Manifest) -> Mapping[str, object]:
    found = manifest["metadata"]
    assert isinstance(found, Mapping)
    return found


@contextlib.contextmanager
def lone_agent(directory: Path, podman: PodmanService, **options: Any) -> Iterator[LoneAgent]:
    """A started agent; what is left of it when the block ends is an error."""
    with LoneAgent(directory, podman, **options) as agent:
        yield agent
        agent.clear()
        agent.assert_nothing_left()
