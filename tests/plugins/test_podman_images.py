"""PodmanRuntime's images: found, pulled from a real registry, and what they bring into a container."""

import itertools
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import PullCredentials
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import IMAGE, Make, ended, log_text, runtime_on
from tests.support.podman import PodmanService
from tests.support.registry import Registry

_numbers = itertools.count()


def test_find_image(runtime: PodmanRuntime) -> None:
    found = runtime.find_image(IMAGE)
    assert found is not None
    assert found.reference == IMAGE
    assert len(found.id) == 64
    assert runtime.find_image("localhost/absent:1") is None
    assert runtime.find_image("127.0.0.1:5/a/b/c@sha256:" + "0" * 64) is None
    for wrong in ("Not A Reference", "", "../../containers/json?x=y#z"):
        with pytest.raises(PermanentError) as caught:
            runtime.find_image(wrong)
        assert caught.value.reason in ("InvalidImageName", "InvalidArgument")


@pytest.fixture
def pushed(podman: PodmanService, registry: Registry) -> Iterator[str]:
    """An image that the registry has and Podman has not."""
    reference = f"{registry.address}/edge/app:{next(_numbers)}"
    podman.run("tag", IMAGE, reference)
    podman.run("push", "--quiet", "--tls-verify=false", reference)
    podman.run("untag", IMAGE, reference)
    yield reference
    podman.run("untag", IMAGE, reference, check=False)


def test_pull_from_a_real_registry(runtime: PodmanRuntime, pushed: str, create: Make) -> None:
    assert runtime.find_image(pushed) is None
    pulled = runtime.pull_image(pushed, None)
    assert pulled == runtime.find_image(pushed)
    assert runtime.pull_image(pushed, PullCredentials(username="u", password="p")).id == pulled.id
    assert ended(runtime, create("true", image=pushed)).exit_code == 0


def test_an_insecure_registry_is_one_that_is_named(
    podman: PodmanService, registry: Registry, pushed: str
) -> None:
    """The plain HTTP of the test's registry is in registries.conf too, so the request itself is looked at."""
    asked: list[bytes] = []
    ours = runtime_on(podman, insecure_registries=[registry.address])
    original = ours._client.post

    def post(path: str, params: dict[str, str], **rest: object) -> object:
        asked.append(json.dumps(params).encode())
        return original(path, params, **rest)  # type: ignore[arg-type]

    ours._client.post = post  # type: ignore[method-assign, assignment]
    assert ours.pull_image(pushed, None).reference == pushed
    assert b'"tlsVerify": "false"' in asked[0]


def test_an_image_that_the_registry_lacks(runtime: PodmanRuntime, registry: Registry) -> None:
    with pytest.raises(TemporaryError, match="could not pull") as caught:
        runtime.pull_image(f"{registry.address}/edge/absent:1", None)
    assert caught.value.reason == "ErrImagePull"


def test_a_registry_that_does_not_answer(runtime: PodmanRuntime) -> None:
    with pytest.raises(TemporaryError, match="refused") as caught:
        runtime.pull_image("127.0.0.1:1/edge/app:1", None)
    assert caught.value.reason == "ErrImagePull"


def test_a_pull_that_takes_too_long_is_given_up(podman: PodmanService) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        impatient = runtime_on(podman, pull_timeout=1)
        begun = time.monotonic()
        with pytest.raises(TemporaryError, match="within 1 s"):
            impatient.pull_image(f"127.0.0.1:{silent.getsockname()[1]}/edge/app:1", None)
        assert time.monotonic() - begun < 4


def test_a_reference_that_is_none(runtime: PodmanRuntime) -> None:
    with pytest.raises(PermanentError) as caught:
        runtime.pull_image("Not A Reference", None)
    assert caught.value.reason == "InvalidImageName"


def test_an_absent_image_is_named(create: Make) -> None:
    with pytest.raises(PermanentError, match=r"localhost/nope:1 is not on this node") as caught:
        create("true", image="localhost/nope:1")
    assert caught.value.reason == "ImageNotPresent"


def test_args_alone_replace_the_images_command(runtime: PodmanRuntime, create: Make) -> None:
    assert log_text(ended(runtime, create(args=["echo", "hello"]))) == "hello"


def test_an_images_health_check_never_runs(
    runtime: PodmanRuntime, podman: PodmanService, create: Make, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nHEALTHCHECK --interval=1s CMD touch /checked\n")
    podman.run("build", "--format", "docker", "--tag", "localhost/checked:1", str(tmp_path))
    assert "touch /checked" in podman.run("image", "inspect", "localhost/checked:1").stdout
    running = runtime.start_container(create("sleep", "100", image="localhost/checked:1").id)
    assert "touch" not in json.dumps(
        json.loads(podman.run("inspect", running.id).stdout)[0]["Config"].get("Healthcheck")
    )
    time.sleep(1.5)
    assert not Path(f"/proc/{running.pid}/root/checked").exists()


def test_an_images_volume_goes_with_the_container(
    runtime: PodmanRuntime, podman: PodmanService, create: Make
) -> None:
    podman.run("create", "--name", "base", "--network", "host", IMAGE, "true")
    podman.run("commit", "-q", "--change", "VOLUME /data", "base", "localhost/volume:1")
    running = runtime.start_container(create("sleep", "100", image="localhost/volume:1").id)
    assert podman.run("volume", "ls", "-q").stdout.strip()
    runtime.remove_container(running.id)
    assert podman.run("volume", "ls", "-q").stdout.strip() == ""
