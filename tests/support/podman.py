"""A real Podman with storage of its own: its REST service, and its command line on the same storage."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.image import busybox_rootfs_tar
from tests.support.proc import Process

CAP_SYS_RESOURCE = 24
_PREFIX = "edge-podman-"
_PARENT = "/tmp"  # noqa: S108 - for short paths; mkdtemp makes the directory itself safe
BUSYBOX_TAG = "localhost/busybox:1"


class PodmanError(AssertionError):
    """A podman command failed; the message has its command line and what it wrote to stderr."""


def has_capability(bit: int) -> bool:
    """Say whether this process holds the capability with this number."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def is_constrained_host() -> bool:
    """Say whether crun cannot start containers here: cgroup v1 or hybrid, or no CAP_SYS_RESOURCE."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return not unified or not has_capability(CAP_SYS_RESOURCE)


def containers_conf(directory: Path) -> str:
    """Return the ``containers.conf`` with which containers start on this host."""
    containers: list[str] = []
    engine = [
        # The default lock segment in /dev/shm is the whole host's, and a Podman on a new storage clears it.
        'lock_type = "file"',
        'events_logger = "file"',
    ]
    if is_constrained_host():
        containers.append('default_ulimits = ["nofile=8192:8192", "nproc=8192:8192"]')
        engine += ['runtime = "runc"', 'cgroup_manager = "cgroupfs"']
    else:
        if shutil.which("crun") is None:
            engine.append('runtime = "runc"')
        if not Path("/run/systemd/system").is_dir():
            engine.append('cgroup_manager = "cgroupfs"')
    network = [f'network_config_dir = "{directory / "networks"}"']
    sections = {"containers": containers, "engine": engine, "network": network}
    return "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())


def registries_conf(insecure: Sequence[str]) -> str:
    """Return a ``registries.conf`` that lets Podman use these registries over plain HTTP."""
    return "".join(f'[[registry]]\nlocation = "{location}"\ninsecure = true\n' for location in insecure)


class PodmanService:
    """``podman system service`` on a private storage in a short directory of its own under /tmp."""

    def __init__(self, *, insecure_registries: Sequence[str] = (), directory: Path | None = None) -> None:
        # Unix socket paths end at 107 bytes, so this cannot lie in pytest's long temporary directories.
        self.directory = directory or Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PARENT))
        self.socket = self.directory / "podman.sock"
        self.log = self.directory / "service.log"
        conf = self.directory / "containers.conf"
        conf.write_text(containers_conf(self.directory))
        registries = self.directory / "registries.conf"
        registries.write_text(registries_conf(insecure_registries))
        for name in ("root", "run", "tmp", "networks"):
            (self.directory / name).mkdir(exist_ok=True)
        (self.directory / "owner").write_text(str(os.getpid()))
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("CONTAINER_", "CONTAINERS_"))
        }
        self.env: dict[str, str] = {
            **kept,
            "CONTAINERS_CONF": str(conf),
            "CONTAINERS_REGISTRIES_CONF": str(registries),
        }
        self.argv = [
            "podman",
            f"--root={self.directory / 'root'}",
            f"--runroot={self.directory / 'run'}",
            f"--tmpdir={self.directory / 'tmp'}",
        ]
        self.process = Process(
            [*self.argv, "system", "service", "--time=0", self.url],
            log=self.log,
            env=self.env,
            cwd=self.directory,  # conmon leaves a file there when a container runs out of memory
            name="podman service",
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The socket as a URL, as podman-py's ``base_url`` takes it."""
        return f"unix://{self.socket}"

    @property
    def running(self) -> bool:
        """Whether the service runs."""
        return self.process.running

    def start(self) -> Self:
        """Start the service unless it runs, and return once it answers."""
        if not self.process.running:
            self.socket.unlink(missing_ok=True)
            self.process.start()
            (self.directory / "service.pid").write_text(str(self.process.pid))
            self.process.wait_until(self.ping, timeout=30, what="answering")
        return self

    def stop(self) -> None:
        """End the service. Containers go on running."""
        self.process.terminate()

    def ping(self) -> bool:
        """Say whether the service answers ``GET /_ping``."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(2)
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: podman\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def run(
        self, *args: str, check: bool = True, timeout: float = 60.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the podman command line on this storage; needs no service."""
        done = subprocess.run(
            [*self.argv, *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin,
            check=False,
        )
        if check and done.returncode != 0:
            raise PodmanError(
                f"podman {' '.join(args)} ended with status {done.returncode}:\n{done.stderr.strip()}"
            )
        return done

    def import_busybox(self, tag: str = BUSYBOX_TAG) -> str:
        """Build the busybox image, import it as ``tag`` and return the tag."""
        tar = self.directory / "busybox.tar"
        if not tar.exists():
            busybox_rootfs_tar(tar)
        self.run("import", "--quiet", "--change", 'CMD ["/bin/sh"]', str(tar), tag)
        return tag

    def kill_all_containers(self) -> None:
        """Remove every pod, container and volume of this storage, by force; images stay."""
        if self._has("containers/json?all=true"):
            self.run("rm", "--force", "--all", "--time", "0")
        if self._has("pods/json"):
            self.run("pod", "rm", "--force", "--all", "--time", "0")
        if self._has("volumes/json"):
            self.run("volume", "rm", "--force", "--all")

    def _has(self, listed: str) -> bool:
        """Whether the service lists any; True where it does not answer. No ``podman`` is started for it."""
        request = f"GET /v4.0.0/libpod/{listed} HTTP/1.0\r\nHost: podman\r\n\r\n"
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(self.socket))
                connection.sendall(request.encode())
                while data := connection.recv(65536):
                    answer += data
        except OSError:
            return True
        head, _, body = answer.partition(b"\r\n\r\n")
        return b" 200 " not in head.partition(b"\r\n")[0] or body.strip() not in (b"[]", b"null")

    def close(self) -> None:
        """Remove all containers, end the service, unmount what is left and delete the directory."""
        try:
            self.process.thaw()
            self.kill_all_containers()
        finally:
            self.stop()
            self._unmount()
            shutil.rmtree(self.directory, ignore_errors=True)

    @classmethod
    def reap_abandoned(cls) -> None:
        """Clean up what test runs left that were killed: their services, containers, mounts and files."""
        for directory in Path(_PARENT).glob(f"{_PREFIX}*"):
            try:
                owner = int((directory / "owner").read_text())
                if Path(f"/proc/{owner}").exists():
                    continue
                # One process alone succeeds in this, so that two do not clean up the same.
                (directory / "owner").rename(directory / "former-owner")
            except (OSError, ValueError):
                continue
            with contextlib.suppress(OSError, ValueError):
                service = int((directory / "service.pid").read_text())
                if str(directory) in Path(f"/proc/{service}/cmdline").read_text():
                    os.kill(service, signal.SIGKILL)
            cls(directory=directory).close()

    def _unmount(self) -> None:
        prefix = f"{self.directory}/"
        with contextlib.suppress(OSError):
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            for point in sorted(
                (point for point in mounts if point.startswith(prefix)), key=len, reverse=True
            ):
                subprocess.run(["umount", "--lazy", point], check=False, capture_output=True, timeout=30)
