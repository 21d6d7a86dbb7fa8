"""Removing the containers of earlier runs, which are kept for their logs until the disk is short.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-garbage-collection
"""

import logging
from collections.abc import Iterable
from typing import Protocol

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.runtime import LABEL_ATTEMPT, LABEL_CONTAINER, LABEL_POD_UID, ContainerRecord

log = logging.getLogger(__name__)


class ContainerRuntime(Protocol):
    """The part of ``edgeagent.node.plugins.facades.RuntimeFacade`` that is used here."""

    async def list_containers(self) -> list[ContainerRecord]:
        """All containers of pods."""

    async def remove_container(self, container_id: str) -> None:
        """Remove a container."""


def superseded(records: Iterable[ContainerRecord]) -> list[ContainerRecord]:
    """The ended runs that a later run of the same container of the same pod has followed. Pure.

    The latest run of each stays, whatever its state: a pod's status is made of it.
    """
    latest: dict[tuple[str, str], int] = {}
    ended = []
    for record in records:
        uid, name = record.labels.get(LABEL_POD_UID, ""), record.labels.get(LABEL_CONTAINER, "")
        attempt = record.labels.get(LABEL_ATTEMPT, "")
        if not (uid and name and attempt.isascii() and attempt.isdecimal()):
            continue
        latest[uid, name] = max(latest.get((uid, name), -1), int(attempt))
        if record.state == "exited":
            ended.append(((uid, name), int(attempt), record))
    return [record for key, attempt, record in ended if attempt < latest[key]]


class DeadContainers:
    """A ``Reclaimer`` of writable layers and logs that nothing runs on."""

    def __init__(self, runtime: ContainerRuntime) -> None:
        self._runtime = runtime

    async def reclaim(self) -> None:
        """Remove what is superseded. May raise TemporaryError or PermanentError of the listing."""
        for record in superseded(await self._runtime.list_containers()):
            try:
                await self._runtime.remove_container(record.id)
            except EdgeAgentError as error:
                log.warning("the dead container %s stays: %s", record.name, error)
