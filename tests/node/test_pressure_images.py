"""Image garbage collection: by age and watermark, and never what desired state needs.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import ContainerRecord, Image, ImageRecord
from edgeagent.node.config import ImagesSection
from edgeagent.node.pressure.imagenames import is_named
from edgeagent.node.pressure.images import ImageCollector
from edgeagent.node.pressure.thresholds import Reading
from edgeagent.testing.clock import ManualClock

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        ("docker.io/library/nginx:latest", "nginx"),
        ("docker.io/library/nginx:1.27", "nginx:1.27"),
        ("docker.io/library/nginx:1.27", "docker.io/nginx:1.27"),
        ("docker.io/team/app:1", "team/app:1"),
        ("docker.io/team/app:1", "index.docker.io/team/app:1"),
        ("docker.io/library/nginx:1", "index.docker.io/library/nginx:1"),
        ("docker.io/library/nginx:1", "index.docker.io/nginx:1"),
        ("localhost/busybox:1", "busybox:1"),
        ("quay.io/team/app:latest", "app"),
        ("registry:5000/team/app:1", "registry:5000/team/app:1"),
        ("registry:5000/team/app:latest", "registry:5000/team/app"),
        (f"quay.io/team/app@{DIGEST}", f"quay.io/team/app@{DIGEST}"),
        (f"quay.io/team/app@{DIGEST}", f"quay.io/team/app:1@{DIGEST}"),
    ],
)
def test_a_name_in_a_spec_means_the_image(reference: str, wanted: str) -> None:
    assert is_named([reference], "1" * 64, [wanted])


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        ("docker.io/library/nginx:1.27", "nginx"),
        ("docker.io/library/mynginx:latest", "nginx"),
        ("quay.io/team/app:1", "quay.io/team/app:2"),
        ("quay.io/team/app:latest", "docker.io/team/app"),
        (f"quay.io/team/app@{DIGEST}", f"quay.io/team/app@{DIGEST[:-1]}0"),
        ("quay.io/team/app:1", ""),
    ],
)
def test_another_name_does_not(reference: str, wanted: str) -> None:
    assert not is_named([reference], "1" * 64, [wanted])


def test_an_id_means_the_image_too() -> None:
    assert is_named([], "ab" * 32, ["ab" * 32])
    assert is_named([], DIGEST, ["ab" * 6])
    assert not is_named([], DIGEST, ["ab"])


class Node:
    """A disk of 1000 bytes that holds images, and a runtime that removes them."""

    def __init__(self, images: dict[str, int], *, other: int = 0, came: float = 0) -> None:
        self.clock = ManualClock()
        self.images = {
            name: ImageRecord(id=name * 64, references=[f"localhost/{name}:1"], size=size, created_at=came)
            for name, size in images.items()
        }
        self.other = other
        self.containers: list[ContainerRecord] = []
        self.desired: list[str] = []
        self.in_use: set[str] = set()
        self.aliases: dict[str, str] = {}
        self.asked: list[str] = []
        self.listed = 0
        self.before_removal: Callable[[], None] = lambda: None

    def collector(self, config: ImagesSection) -> ImageCollector:
        """Make the collector."""
        return ImageCollector(
            self, config, clock=self.clock, desired_images=lambda: self.desired, disk=self.disk
        )  # fmt: skip

    def disk(self) -> Reading:
        """Read the disk."""
        return Reading(1000 - self.other - sum(image.size for image in self.images.values()), 1000)

    def use(self, name: str) -> None:
        """Let a container use the image."""
        self.containers.append(
            ContainerRecord(id=name, name=name, image="?", labels={}, state="exited", image_id=name * 64)
        )

    async def list_containers(self) -> list[ContainerRecord]:
        """Give all."""
        return self.containers

    async def list_images(self) -> list[ImageRecord]:
        """Give all, and count."""
        self.listed += 1
        return list(self.images.values())

    async def find_image(self, reference: str) -> Image | None:
        """Know some by an alias."""
        self.asked.append(reference)
        name = self.aliases.get(reference)
        return Image(id=f"sha256:{name * 64}", reference=reference) if name in self.images else None

    async def remove_image(self, image_id: str) -> None:
        """Remove one that nothing else uses."""
        if image_id[0] in self.in_use:
            raise TemporaryError("in use by a container that is no pod's")
        self.before_removal()
        del self.images[image_id[0]]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await scenario()

    asyncio.run(whole())


def test_above_the_high_mark_the_least_recently_used_go_down_to_the_low_one() -> None:
    node = Node({"a": 100, "b": 100, "c": 100, "d": 100}, other=450)

    async def scenario() -> None:
        collector = node.collector(ImagesSection())
        assert await collector.check() == ""
        assert node.listed == 0, "at 85 % nothing is looked at"
        node.other = 460
        node.use("d")
        node.desired = ["c:1"]
        assert "86 % full" in await collector.check(), "all came a moment ago"
        await node.clock.advance(300)
        node.containers = []
        node.other = 470
        assert await collector.check() == ""
        assert set(node.images) == {"b", "c", "d"}, "d was used until now"

    run(scenario)


def test_an_image_that_is_desired_by_an_alias_stays() -> None:
    node = Node({"a": 100, "b": 100, "c": 100}, other=600)
    node.aliases = {"tool": "a"}
    node.desired = ["tool", "absent:1"]

    async def scenario() -> None:
        collector = node.collector(ImagesSection())
        await collector.check()
        assert node.asked == [], "nothing was about to be removed"
        await node.clock.advance(300)
        await collector.reclaim()
        assert set(node.images) == {"a"}
        assert sorted(node.asked) == ["absent:1", "tool"], "each once"

    run(scenario)


def test_a_collection_in_vain_is_not_repeated_at_once() -> None:
    node = Node({"a": 100}, other=890)
    node.desired = ["a:1"]

    async def scenario() -> None:
        collector = node.collector(ImagesSection())
        assert "99 % full" in await collector.check()
        await node.clock.advance(299)
        assert "99 % full" in await collector.check(), "which is still so"
        assert node.listed == 1
        await node.clock.advance(1)
        assert "99 %" in await collector.check()
        assert set(node.images) == {"a"}

    run(scenario)


def test_the_minimum_age_and_an_image_in_use_elsewhere() -> None:
    node = Node({"a": 100, "b": 100}, other=780)
    node.in_use = {"a"}

    async def scenario() -> None:
        collector = node.collector(ImagesSection())
        await node.clock.advance(119)
        await collector.reclaim()
        assert set(node.images) == {"a", "b"}
        await node.clock.advance(1)
        await collector.reclaim()
        assert set(node.images) == {"a"}

    run(scenario)


def test_an_image_that_has_just_come_is_kept_although_the_agent_is_old() -> None:
    node = Node({"a": 100})

    async def scenario() -> None:
        collector = node.collector(ImagesSection())
        await node.clock.advance(10_000)
        node.images["b"] = ImageRecord(
            id="b" * 64, references=[], size=100, created_at=node.clock.now() - 10
        )  # fmt: skip
        await collector.reclaim()
        assert set(node.images) == {"b"}

    run(scenario)


def test_the_maximum_age() -> None:
    node = Node({"a": 1, "b": 1})
    node.desired = ["b:1"]

    async def scenario() -> None:
        collector = node.collector(ImagesSection(maximum_age="1h"))
        for _ in range(12):
            assert await collector.check() == ""
            assert set(node.images) == {"a", "b"}
            await node.clock.advance(300)
        await node.clock.advance(300)
        await collector.check()
        assert set(node.images) == {"b"}
        assert node.listed <= 13

    run(scenario)


def test_what_becomes_wanted_during_a_collection_stays() -> None:
    node = Node({"a": 100, "b": 100}, other=780)

    def apply() -> None:
        node.desired = ["b:1"]

    node.before_removal = apply

    async def scenario() -> None:
        collector = node.collector(ImagesSection())
        await node.clock.advance(120)
        await collector.reclaim()
        assert set(node.images) == {"b"}

    run(scenario)


NAMES = st.sets(st.sampled_from("abcdef"))


@settings(deadline=None)
@given(present=NAMES, used=NAMES, desired=NAMES, hours=st.floats(0, 3), other=st.integers(0, 900))
def test_nothing_that_is_needed_ever_goes(
    present: set[str], used: set[str], desired: set[str], hours: float, other: int
) -> None:
    node = Node(dict.fromkeys(present, 10), other=other)
    for name in used:
        node.use(name)
    node.desired = [f"localhost/{name}:1" for name in desired]

    async def scenario() -> None:
        collector = node.collector(ImagesSection(maximum_age="1h"))
        await node.clock.advance(hours * 3600)
        await collector.check()
        await collector.reclaim()
        assert set(node.images) >= present & (used | desired)
        if hours * 3600 >= 120:
            assert set(node.images) == present & (used | desired)

    run(scenario)
