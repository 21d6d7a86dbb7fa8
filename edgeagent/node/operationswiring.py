"""The operations of operators joined to what of this node serves them: a part of the composition root."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.node.operations import Method, Operations, StreamMethod
from edgeagent.node.reboot import Reboot, Runner
from edgeagent.node.status import Conditions
from edgeagent.node.store.audit import AuditLog
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.outbox import Outbox


class OperationsMeans(msgspec.Struct, frozen=True):
    """What of the agent operations work with. ``reads`` are the methods that change nothing, ``streams``
    those that begin a stream.

    ``ca`` is the CA certificate from enrolment, ``now`` the time by which calls expire.
    """

    cluster: str
    node: str
    ca: Path
    database: Database
    outbox: Outbox
    desired: DesiredState
    reads: Mapping[str, Method]
    streams: Mapping[str, StreamMethod]
    reboot_command: Sequence[str]
    run_program: Runner
    root: Path
    boot_id: str
    now: Callable[[], float]
    on_audit: Callable[[], None]


def make_operations(means: OperationsMeans) -> Operations:
    """The operations of a node that is enrolled."""
    reboot = Reboot(means.reboot_command, run=means.run_program, root=means.root, boot_id=means.boot_id)

    def objects() -> Iterable[KubernetesObject]:
        return means.desired.objects.values()

    return Operations(
        cluster=means.cluster,
        node=means.node,
        audit=AuditLog(means.database, means.outbox),
        ca=means.ca,
        objects=objects,
        methods={**means.reads, "reboot": reboot.call},
        streams=means.streams,
        now=means.now,
        on_audit=means.on_audit,
    )


def tell_audit(conditions: Conditions, operations: Operations | None, now: float) -> None:
    """Set the condition ``AuditLogIntact`` of a node that is enrolled."""
    if operations is not None:
        fault = operations.audit.fault
        conditions.set("AuditLogIntact", not fault, "Tampered" if fault else "Intact", fault, now)
