"""Dead containers that may go when the disk is short, and those that must stay."""

import asyncio
from typing import Literal

from edgeagent.api.errors import TemporaryError
from edgeagent.api.runtime import LABEL_ATTEMPT, LABEL_CONTAINER, LABEL_POD_UID, ContainerRecord
from edgeagent.node.pressure.dead import DeadContainers


def run_of(
    uid: str, attempt: str, state: Literal["created", "running", "exited"], name: str = "main"
) -> ContainerRecord:
    labels = {LABEL_POD_UID: uid, LABEL_CONTAINER: name, LABEL_ATTEMPT: attempt}
    identity = f"{uid}-{name}-{attempt}"
    return ContainerRecord(id=identity, name=identity, image="i", labels=labels, state=state)


class Runtime:
    """Containers in memory, of which one cannot be removed."""

    def __init__(self, records: list[ContainerRecord], stuck: str = "") -> None:
        self.records = {record.id: record for record in records}
        self.stuck = stuck

    async def list_containers(self) -> list[ContainerRecord]:
        """All of them."""
        return list(self.records.values())

    async def remove_container(self, container_id: str) -> None:
        """Remove one."""
        if container_id == self.stuck:
            raise TemporaryError("busy")
        del self.records[container_id]


def test_only_ended_runs_that_others_have_followed_go() -> None:
    runtime = Runtime([
        run_of("a", "9", "exited"), run_of("a", "10", "exited"), run_of("a", "11", "running"),
        run_of("a", "0", "exited", "init"), run_of("b", "0", "exited"), run_of("b", "1", "created"),
        run_of("c", "0", "exited"), run_of("c", "1", "exited"), run_of("d", "x", "exited"),
        ContainerRecord(id="foreign", name="foreign", image="i", labels={}, state="exited"),
    ])  # fmt: skip
    asyncio.run(DeadContainers(runtime).reclaim())
    assert set(runtime.records) == {"a-main-11", "a-init-0", "b-main-1", "c-main-1", "d-main-x", "foreign"}


def test_one_that_cannot_be_removed_keeps_no_other() -> None:
    runtime = Runtime([run_of("a", str(number), "exited") for number in range(4)], stuck="a-main-0")
    asyncio.run(DeadContainers(runtime).reclaim())
    assert set(runtime.records) == {"a-main-0", "a-main-3"}
