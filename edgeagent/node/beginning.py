"""What an agent notes when it begins: whose desired state it holds, and whether the machine was restarted."""

import logging

from edgeagent.api.errors import TemporaryError
from edgeagent.node.identity import NodeIdentity
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState, get_meta, set_meta
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.pods import PodRecords
from edgeagent.wire.canonical import canonical_json, digest

log = logging.getLogger(__name__)


def adopt_origin(desired: DesiredState, identity: NodeIdentity) -> None:
    """Note which enrolment desired state is from."""
    try:
        desired.adopt_origin(digest(canonical_json(identity.trust)))
    except TemporaryError as error:
        log.warning("a full disk keeps this enrolment from being noted: %s", error)


def note_boot(database: Database, records: PodRecords, outbox: Outbox, boot_id: str) -> None:
    """Tell a restart of the machine from one of the agent (by ``/proc/sys/kernel/random/boot_id``)."""
    try:
        if database.recovered or get_meta(database, "boot_id") != boot_id:
            records.rebooted()
            outbox.skip_ahead()
            set_meta(database, [("boot_id", boot_id)])
    except TemporaryError as error:
        log.warning("a full disk keeps this boot from being noted: %s", error)
