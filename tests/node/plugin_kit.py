"""Real plugins for tests: a module and a ``dist-info`` in a folder on ``sys.path``, found as installed."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from edgeagent.api.objects.node import PluginStatus
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.plugins.process_lane import ProcessLane

OURS_OFF: Mapping[str, Mapping[str, object]] = {
    name: {"enabled": False} for name in ("logs", "metrics", "network", "podman", "security")
}
"""Where the tests run against the installed wheel, its own plugins are found too."""

HEADER = """
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import ContainerRecord, ExecSession, Image, RuntimeInfo
"""

RUNTIME = (
    HEADER
    + """
import contextlib, os, signal, sys, threading, time
from pathlib import Path

class Config(PluginConfig, frozen=True):
    colour: str = "red"
    size: int = 1

class Runtime:
    def __init__(self, ctx):
        self.ctx = ctx
        self.calls = 0

    def info(self):
        self.calls += 1
        return RuntimeInfo(name=f"{self.ctx.config.colour}-{self.calls}", version=str(os.getpid()))

    def list_containers(self):
        return [ContainerRecord(id="1", name="a", image="i", labels={}, state="running"), "not a record"]

    def find_image(self, reference):
        return None

    def pull_image(self, reference, credentials):
        if reference == "temporary":
            raise TemporaryError("no registry", delay=7.5, reason="ErrImagePull")
        if reference == "permanent":
            raise PermanentError("no such image", reason="InvalidImageName")
        if reference == "bug":
            raise KeyError("bug")
        if reference == "exit":
            sys.exit(3)
        if reference == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if reference == "garbage":
            os.write(int(sys.argv[1]), b"\\xff" * 64)
        if reference == "huge":
            return Image(id="x" * (17 * 1024 * 1024), reference="huge")
        if reference == "ill-typed":
            return Image(id=5, reference="x")
        if reference.startswith("hang"):
            Path(self.ctx.run_dir, reference).write_text(str(os.getpid()))
            while not Path(self.ctx.run_dir, "release").exists():
                time.sleep(0.01)
        return Image(id=f"{self.ctx.node_name} {self.ctx.cluster} {threading.current_thread().name}",
                     reference=f"{reference} {credentials and credentials.username}")

    def create_container(self, config):
        return ContainerRecord(id=config.name, name=config.name, image=str(len(config.env.get("BIG", ""))),
                               labels=config.labels, state="created")

    def start_container(self, container_id):
        return None

    def start_exec(self, container_id, options):
        import socket
        if container_id == "none":
            return ExecSession(id="none", framing="raw")
        if container_id.startswith("unasked"):
            lane = socket.socket(fileno=os.dup(int(sys.argv[1])))
            for number in range(int(container_id.split("-")[1])):
                mine, other = socket.socketpair()
                # With a frame that is no answer.
                socket.send_fds(lane, [b"\\x00\\x00\\x00\\x01\\xff"], [other.fileno()])
            time.sleep(60)
        if container_id == "closed":
            return ExecSession(id="closed", framing="raw", descriptor=999)
        ours, theirs = socket.socketpair()
        def attend():
            with ours, contextlib.suppress(ConnectionError):  # closed before all was read
                ours.sendall(container_id.encode())
                while ours.recv(64):
                    pass
            Path(self.ctx.run_dir, "end-" + container_id).write_text("")
        threading.Thread(target=attend, daemon=True).start()
        if container_id == "ill-typed":
            return ExecSession(id=5, framing="raw", descriptor=theirs.detach())
        if container_id == "unencodable":
            return ExecSession(id=object(), framing="raw", descriptor=theirs.detach())
        if container_id == "huge":
            return ExecSession(id="x" * (17 * 1024 * 1024), framing="raw", descriptor=theirs.detach())
        if container_id.startswith("hang"):
            Path(self.ctx.run_dir, container_id).write_text(str(os.getpid()))
            while not Path(self.ctx.run_dir, "release").exists():
                time.sleep(0.01)
        return ExecSession(id=container_id, framing="raw", descriptor=theirs.detach())

    def reopen_log(self, container_id):
        return self.start_exec(container_id, None)

    def wait_container(self, container_id):
        return ContainerRecord(id=os.environ.get("PYTHONPATH", "unset"),
                               name=str(Path("/proc/self/fd/0").readlink()),
                               image=" ".join(sorted(os.listdir("/proc/self/fd"))),
                               labels={name: "" for name in sys.modules}, state="exited")

    def remove_container(self, container_id):
        pass

@hookimpl
def edgeagent_plugin_info():
    return PluginInfo(name=NAME, version="1", summary="s", lane=LaneSpec(**LANE))

@hookimpl
def edgeagent_config_schema():
    return Config

@hookimpl
def edgeagent_container_runtime(ctx):
    return Runtime(ctx)
"""
)

INFO = """
@hookimpl
def edgeagent_plugin_info():
    return PluginInfo(name={name!r}, version="1", summary="s")
"""


class VirtualClock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.sleeps: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        """As ``monotonic``."""
        return self.time

    def monotonic(self) -> float:
        """The seconds that have passed."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Return once ``advance`` has come so far."""
        self.sleeps.append(seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.time += seconds
        for due, future in list(self._sleepers):
            if due <= self.time:
                self._sleepers.remove((due, future))
                if not future.done():
                    future.set_result(None)


class Kit:
    """Installs plugins into a folder and makes hosts that find them."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site"
        self.site.mkdir()
        self.folder = folder
        self.clock = VirtualClock()
        self.changes = 0

    def install(
        self,
        name: str,
        source: str,
        *,
        distribution: str = "",
        module: str = "",
        version: str = "2.5",
        entry_points: str | None = None,
    ) -> None:
        """A distribution with one module and one entry point (or ``entry_points`` as its file says)."""
        module = module or f"kitplug_{name.replace('-', '_')}"
        distribution = distribution or f"dist-{name}"
        (self.site / f"{module}.py").write_text(dedent(source))
        info = self.site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points or f"[edgeagent]\n{name} = {module}\n")

    def install_runtime(self, name: str = "rt", **lane: object) -> None:
        """The plugin RUNTIME with this lane."""
        self.install(name, f"NAME = {name!r}\nLANE = {lane!r}\n" + RUNTIME)

    def host(self, **sections: Mapping[str, object]) -> PluginHost:
        """A loaded host."""
        host = PluginHost(
            {**OURS_OFF, **sections},
            node_name="n1",
            cluster="c1",
            state_dir=self.folder / "state",
            run_dir=self.folder / "run",
            identity_dir=self.folder / "identity",
            clock=self.clock,
            random=random.Random(7),
            on_change=self._changed,
        )
        host.load()
        return host

    def _changed(self) -> None:
        self.changes += 1

    def run_file(self, plugin: str, name: str) -> Path:
        """A file in the plugin's run_dir."""
        return self.folder / "run" / plugin / name

    def with_runtime(
        self, body: Callable[[PluginHost, RuntimeFacade], Awaitable[None]], **config: object
    ) -> None:
        """Run ``body`` with the runtime of plugin ``rt``, and stop the host after it."""

        async def main() -> None:
            async with stopping(self.host(rt=config)) as host:
                runtime = host.runtime()
                assert runtime is not None, statuses(host)
                await body(host, runtime)

        asyncio.run(main())


@asynccontextmanager
async def stopping(host: PluginHost) -> Any:
    """``host``, stopped at the end."""
    try:
        yield host
    finally:
        await host.stop()


def statuses(host: PluginHost) -> dict[str, PluginStatus]:
    """The statuses by name, without the project's own plugins."""
    return {one.name: one for one in host.statuses() if one.name not in OURS_OFF}


def child_pid(host: PluginHost, name: str = "rt") -> int:
    """The pid of the plugin's child, 0 where there is none."""
    lane = host._hosted[name].lane
    assert isinstance(lane, ProcessLane)
    return lane.pid


@contextmanager
def on_path(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """``kit`` with its folder first on ``sys.path``; its modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(kit.site)
    try:
        yield kit
    finally:
        for module in [name for name in sys.modules if name.startswith("kitplug_")]:
            del sys.modules[module]
