"""What an agent does when it begins: it opens its store, and notes whose desired state it holds."""

import logging

from edgeagent.api.errors import TemporaryError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.quantity import parse_quantity
from edgeagent.node.config import AgentConfig
from edgeagent.node.events import EventRecorder
from edgeagent.node.identity import NodeIdentity
from edgeagent.node.pods.means import NodeFacts
from edgeagent.node.status import capacity
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState, get_meta, set_meta
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.pods import PodRecords
from edgeagent.node.store.reserve import Reserve
from edgeagent.wire.canonical import canonical_json, digest

log = logging.getLogger(__name__)


def open_database(config: AgentConfig, reserve: Reserve, now: float) -> Database:
    """The store; a passing one below /run where the disk takes none: static pods run all the same."""
    state, run = config.state_dir, config.run_dir
    try:
        return Database(state / "agent.db", now=now, spare=run / "agent.db", reserve=reserve)
    except (OSError, TemporaryError) as error:
        log.error("%s; until the next start, %s stands in for the store", error, run / "standin.db")
        return Database(run / "standin.db", now=now)


def node_facts(config: AgentConfig, name: str) -> NodeFacts:
    """What pods may be told of the node ``name``."""
    amounts = capacity(config.state_dir)
    return NodeFacts(
        name=name,
        allocatable={one: parse_quantity(amount) for one, amount in amounts.items()},
        pids_limit=max(0, config.pods.pids_limit),
        unsafe_sysctls=config.pods.allowed_unsafe_sysctls,
        profiles=config.state_dir / "seccomp",
    )


def adopt_origin(desired: DesiredState, identity: NodeIdentity) -> None:
    """Note which enrolment desired state is from."""
    try:
        desired.adopt_origin(digest(canonical_json(identity.trust)))
    except TemporaryError as error:
        log.warning("a full disk keeps this enrolment from being noted: %s", error)


def say_recovered(database: Database, events: EventRecorder, node: str) -> None:
    """Record what was lost of the store, if anything was."""
    if database.recovered:
        about = ObjectReference(kind="Node", name=node)
        events.record(about, "Warning", "StoreRecovered", database.recovered)


def note_boot(database: Database, records: PodRecords, outbox: Outbox, boot_id: str) -> None:
    """Tell a restart of the machine from one of the agent (by ``/proc/sys/kernel/random/boot_id``)."""
    try:
        if database.recovered or get_meta(database, "boot_id") != boot_id:
            records.rebooted()
            outbox.skip_ahead()
            set_meta(database, [("boot_id", boot_id)])
    except TemporaryError as error:
        log.warning("a full disk keeps this boot from being noted: %s", error)
