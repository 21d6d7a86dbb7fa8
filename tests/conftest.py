"""Fixtures for real parts, how property tests choose examples, and what the gate adds: reruns, no skips."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.support import natures, reruns
from tests.support.broker import MOSQUITTO, Mosquitto, TlsMaterial
from tests.support.podman import PodmanService
from tests.support.proc import free_port
from tests.support.properties import load_profile
from tests.support.registry import Registry
from tests.support.skips import SkipGuard, read_expected

_PACKAGES = {
    "podman": "podman",
    "conmon": "conmon",
    "runc": "runc",
    "/bin/busybox": "busybox-static",
    MOSQUITTO: "mosquitto",
    "docker-registry": "docker-registry",
}


load_profile()  # before the tests' modules, whose settings are made from it


def pytest_configure(config: pytest.Config) -> None:
    """Guard against unexpected skips where the environment says that all parts must be there; reruns."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a shell's background job; children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    is_worker = hasattr(config, "workerinput")  # its reports reach the controller
    reruns.register(config, is_worker=is_worker)
    if os.environ.get("CI") == "true" and not is_worker:
        expected = read_expected(Path(__file__).parent / "expected_skips.txt")
        config.pluginmanager.register(SkipGuard(expected), "edgeagent-skip-guard")


@pytest.hookimpl(tryfirst=True)  # before pytest goes by the markers that it was asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests by what they are; those that take minutes come first: who ends last is waited for."""
    natures.mark(items)
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


def _need(*programs: str, root: bool = False) -> None:
    missing = sorted({_PACKAGES[program] for program in programs if shutil.which(program) is None})
    if missing:
        pytest.skip(f"needs Debian's {', '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    if root and os.geteuid() != 0:
        pytest.skip("needs root: containers with cgroup limits are started by the system's Podman")


@pytest.fixture(autouse=True)
def _usual_umask() -> None:
    """Each test begins with the umask of a login, whatever one before it left to its process."""
    os.umask(0o022)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The project's source tree, also when the tests run from a copy against the installed wheel."""
    return Path(os.environ.get("EDGEAGENT_CHECKOUT") or Path(__file__).parents[1])


@pytest.fixture(scope="session")
def registry_port() -> int:
    """The port of this process's registry, known before it starts so that Podman can be told of it."""
    return free_port()


@pytest.fixture(scope="session")
def registry(registry_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real image registry on loopback; ``podman`` knows it as one to speak plain HTTP with."""
    _need("docker-registry")
    with Registry(tmp_path_factory.mktemp("registry"), registry_port) as running:
        yield running


@pytest.fixture(scope="session")
def podman_service(registry_port: int) -> Iterator[PodmanService]:
    """A real Podman with storage private to this test process, holding ``localhost/busybox:1``."""
    _need("podman", "conmon", "runc", "/bin/busybox", root=True)
    PodmanService.reap_abandoned()
    service = PodmanService(insecure_registries=[f"127.0.0.1:{registry_port}"])
    with service:
        service.import_busybox()
        yield service


@pytest.fixture
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """The running Podman of this test process; all containers are removed after the test."""
    podman_service.start()
    yield podman_service
    podman_service.process.thaw()
    podman_service.kill_all_containers()


class MosquittoFactory(Protocol):
    """Makes and starts a broker; the arguments are those of ``Mosquitto``, without the directory."""

    def __call__(
        self,
        *,
        port: int | None = None,
        tls: TlsMaterial | None = None,
        require_certificate: bool = True,
        persistence: bool = False,
        options: dict[str, str] | None = None,
        extra: list[str] | None = None,
        config: str | None = None,
    ) -> Mosquitto:
        """Start it; it is stopped when the test ends."""
        ...


@pytest.fixture
def mosquitto_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoFactory]:
    """Start any number of real brokers, each on its own loopback port; all are stopped after the test."""
    _need(MOSQUITTO)
    with ExitStack() as stack:

        def make(
            *,
            port: int | None = None,
            tls: TlsMaterial | None = None,
            require_certificate: bool = True,
            persistence: bool = False,
            options: dict[str, str] | None = None,
            extra: list[str] | None = None,
            config: str | None = None,
        ) -> Mosquitto:
            broker = Mosquitto(
                tmp_path_factory.mktemp("mosquitto"),
                port=port,
                tls=tls,
                require_certificate=require_certificate,
                persistence=persistence,
                options=options,
                extra=extra or [],
                config=config,
            )
            return stack.enter_context(broker)

        yield make


@pytest.fixture
def mosquitto(mosquitto_factory: MosquittoFactory) -> Mosquitto:
    """A plain real broker on loopback: no TLS, anonymous, nothing kept."""
    return mosquitto_factory()
