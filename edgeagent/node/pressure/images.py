"""Removing images that nothing needs, when the disk gets full or they get old.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images
"""

import logging
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.runtime import ContainerRecord, Image, ImageRecord
from edgeagent.node.config import ImagesSection
from edgeagent.node.pressure.imagenames import is_named
from edgeagent.node.pressure.thresholds import Reading

log = logging.getLogger(__name__)

AGAIN_SECONDS = 300.0
"""Between two collections that the same fullness asks for (kubelet: five minutes)."""


class ImageRuntime(Protocol):
    """The part of ``edgeagent.node.plugins.facades.RuntimeFacade`` that is used here."""

    async def list_containers(self) -> list[ContainerRecord]:
        """All containers of pods."""

    async def list_images(self) -> list[ImageRecord]:
        """All images."""

    async def find_image(self, reference: str) -> Image | None:
        """The image that a name stands for, short names and their aliases included."""

    async def remove_image(self, image_id: str) -> None:
        """Remove an image with all its names."""


class Unused(msgspec.Struct, frozen=True):
    """An image that nothing needs, and since when, by the monotonic clock."""

    image: ImageRecord
    since: float


def unused_images(
    images: Iterable[ImageRecord],
    used: Set[str],
    wanted: Sequence[str],
    since: Callable[[ImageRecord], float],
) -> list[Unused]:
    """What is neither in ``used`` (ids) nor meant by a name in ``wanted``, least recently used first."""
    unused = [
        Unused(image, since(image))
        for image in images
        if image.id not in used and not is_named(image.references, image.id, wanted)
    ]
    return sorted(unused, key=lambda one: (one.since, one.image.created_at, one.image.id))


class ImageCollector:
    """Keeps the images within their share of the disk.

    Since when an image is unused is kept in memory alone, as in kubelet: a restart of the agent starts the
    ages anew, which errs on the side of keeping, and costs an SD card nothing. ``desired_images`` gives every
    image that a desired pod names, init containers included; it is asked anew before each removal. ``disk``
    reads the file system of the images.
    """

    def __init__(
        self,
        runtime: ImageRuntime,
        config: ImagesSection,
        *,
        clock: Clock,
        desired_images: Callable[[], Sequence[str]],
        disk: Callable[[], Reading | None],
    ) -> None:
        self._runtime = runtime
        self._config = config
        self._clock = clock
        self._desired_images = desired_images
        self._disk = disk
        self._started = clock.monotonic()
        self._unused_since: dict[str, float] = {}
        self._used: Set[str] = frozenset()
        self._not_before = self._started
        self._problem = ""
        self._next_ageing = clock.monotonic()

    async def check(self) -> str:
        """Collect if the disk is above the high mark or images may be too old; in words what is still wrong.

        May raise TemporaryError or PermanentError of the runtime.
        """
        now = self._clock.monotonic()
        aged = self._config.maximum_age_seconds
        if aged and now >= self._next_ageing:
            self._next_ageing = now + max(AGAIN_SECONDS, aged / 10)
            await self._remove(lambda one: now - one.since >= aged, until=_never)
        if self._percent_used() <= self._config.high_threshold_percent:
            self._problem = ""
        elif now >= self._not_before:
            self._problem = await self._lower()
        return self._problem

    async def _lower(self) -> str:
        now = self._clock.monotonic()
        self._not_before = now + AGAIN_SECONDS
        low = self._config.low_threshold_percent
        await self._remove(self._old_enough, until=lambda: self._percent_used() <= low)
        left = self._percent_used()
        if left <= low:
            return ""
        return f"the disk of images is {left:.0f} % full, and no more images may be removed"

    async def reclaim(self) -> None:
        """Remove every image that nothing needs and that is old enough: the disk is under pressure."""
        await self._remove(self._old_enough, until=_never)

    def _old_enough(self, one: Unused) -> bool:
        return self._clock.monotonic() - one.since >= self._config.minimum_age_seconds

    def _percent_used(self) -> float:
        reading = self._disk()
        if reading is None or not reading.capacity:
            return 0.0
        return 100.0 * (1 - reading.available / reading.capacity)

    async def _remove(self, which: Callable[[Unused], bool], *, until: Callable[[], bool]) -> None:
        resolved: dict[str, str] = {}
        for one in await self._look():
            if until():
                return
            if not which(one):
                continue
            if is_named(one.image.references, one.image.id, self._desired_images()):
                continue  # wanted since the list was made
            if _bare(one.image.id) in await self._resolved(resolved):
                continue  # wanted under a name that only the runtime knows to be this one's
            try:
                await self._runtime.remove_image(one.image.id)
            except EdgeAgentError as error:
                # A container that is no pod's may use it.
                log.info("the image %s stays: %s", one.image.id, error)
            else:
                self._unused_since.pop(one.image.id, None)
                log.info("removed the image %s %s, which nothing needs", one.image.id, one.image.references)

    async def _resolved(self, known: dict[str, str]) -> Set[str]:
        """The ids of all desired images that are here; ``known``: by name, what was asked before."""
        wanted = set(self._desired_images())
        for name in wanted - known.keys():
            found = await self._runtime.find_image(name)
            known[name] = _bare(found.id) if found is not None else ""
        return {known[name] for name in wanted}

    async def _look(self) -> list[Unused]:
        containers = await self._runtime.list_containers()
        images = await self._runtime.list_images()
        used_ids = {container.image_id for container in containers}
        names = [container.image for container in containers if container.image]
        wanted = [*self._desired_images(), *names]
        unused = unused_images(images, used_ids, wanted, self._since)
        self._unused_since = {one.image.id: one.since for one in unused}
        self._used = {image.id for image in images} - self._unused_since.keys()
        return unused

    def _since(self, image: ImageRecord) -> float:
        """Since when an image is unused that is so now: one never seen used, since it came to the node."""
        now = self._clock.monotonic()
        if image.id in self._unused_since:
            return self._unused_since[image.id]
        if image.id in self._used:
            return now
        came = now - max(0.0, self._clock.now() - image.created_at)
        return max(self._started, came)


def _bare(image_id: str) -> str:
    return image_id.removeprefix("sha256:")


def _never() -> bool:
    return False
