"""What is asked before things are cleaned up: images, where they lie, and how much containers wrote.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import IMAGE, Make, ended
from tests.support.podman import PodmanService

_numbers = itertools.count()


@pytest.fixture
def other(podman: PodmanService, tmp_path: Path) -> Iterator[str]:
    """The id of an image with two names."""
    number = next(_numbers)
    (tmp_path / "file").write_text(f"{number} {tmp_path}")
    (tmp_path / "Containerfile").write_text(f"FROM {IMAGE}\nCOPY file /\n")
    names = [f"localhost/other:{number}", f"localhost/another:{number}"]
    podman.run("build", "--quiet", *(f"--tag={name}" for name in names), str(tmp_path))
    yield podman.run("inspect", "--type=image", names[0], "--format", "{{.Id}}").stdout.strip()
    podman.run("rmi", "--force", *names, check=False)


def test_all_images_are_listed(runtime: PodmanRuntime, other: str) -> None:
    images = {image.id: image for image in runtime.list_images()}
    names = {reference for reference in images[other].references if "@" not in reference}
    assert {name.split(":")[0] for name in names} == {"localhost/other", "localhost/another"}
    assert any("@sha256:" in reference for reference in images[other].references)
    assert images[other].size > 1_000_000
    assert abs(images[other].created_at - time.time()) < 600
    busybox = runtime.find_image(IMAGE)
    assert busybox is not None
    assert IMAGE in images[busybox.id].references


def test_an_image_without_a_name_is_listed(runtime: PodmanRuntime, podman: PodmanService, other: str) -> None:
    podman.run("untag", other)
    assert [image.references for image in runtime.list_images() if image.id == other] == [[]]
    runtime.remove_image(other)
    assert other not in {image.id for image in runtime.list_images()}


def test_an_image_goes_with_all_its_names(runtime: PodmanRuntime, other: str) -> None:
    names = [image.references for image in runtime.list_images() if image.id == other]
    assert len(names[0]) > 1
    runtime.remove_image(other)
    assert other not in {image.id for image in runtime.list_images()}
    assert runtime.find_image(IMAGE) is not None
    runtime.remove_image(other)
    runtime.remove_image("0" * 64)


@pytest.mark.parametrize("state", ["created", "running", "exited"])
def test_an_image_in_use_stays_as_it_is(runtime: PodmanRuntime, create: Make, other: str, state: str) -> None:
    container = create("sleep", "100", image=other)
    if state == "running":
        runtime.start_container(container.id)
    elif state == "exited":
        container = ended(runtime, create("true", image=other))
    before = [image for image in runtime.list_images() if image.id == other]
    with pytest.raises(TemporaryError, match="used by a container") as caught:
        runtime.remove_image(other)
    assert caught.value.reason == "ImageInUse"
    assert [image for image in runtime.list_images() if image.id == other] == before
    for record in runtime.list_containers():
        runtime.remove_container(record.id)
    runtime.remove_image(other)


def test_a_container_that_came_between(
    runtime: PodmanRuntime, create: Make, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman's own look decides, and the image gets its names back."""
    create("true", image=other)
    monkeypatch.setattr("edgeagent_podman.images.Images._used", lambda *_: False)
    before = {name for image in runtime.list_images() if image.id == other for name in image.references}
    with pytest.raises(TemporaryError) as caught:
        runtime.remove_image(other)
    assert caught.value.reason == "ImageInUse"
    after = {name for image in runtime.list_images() if image.id == other for name in image.references}
    assert after == before


def test_where_images_lie(runtime: PodmanRuntime, podman: PodmanService) -> None:
    assert runtime.storage_path() == str(podman.directory / "root")
    podman.stop()
    assert runtime.storage_path() == str(podman.directory / "root"), "known from before"
    podman.start()


def test_how_much_containers_wrote(runtime: PodmanRuntime, create: Make, tmp_path: Path) -> None:
    writer = ended(runtime, create("dd", "if=/dev/zero", "of=/file", "bs=1M", "count=3"))
    idle = create("true")
    sizes = runtime.container_sizes()
    assert set(sizes) == {writer.id, idle.id}
    assert 3 << 20 <= sizes[writer.id] < 4 << 20
    assert sizes[idle.id] < 1 << 20
