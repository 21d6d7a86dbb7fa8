"""What the node must remember of each pod beyond what the runtime can tell: restarts, ends, first start."""

import logging

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.network import HostPort, NamedPort
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.pod import ContainerStateTerminated, PodSpec
from edgeagent.node.store.admitted import AdmittedPods
from edgeagent.node.store.database import Database
from edgeagent.wire.canonical import canonical_json

log = logging.getLogger(__name__)


class ContainerHistory(KubernetesStruct, frozen=True):
    """One container's past. ``started_id``: the runtime's id of the run that was last started.

    ``started_at`` is when that was, or was noted; 0 where it was not. ``crashes`` counts the restarts in the
    current back-off series; ``restart_at`` is when the next run may begin. Both times are by the clock that
    is never set (``edgeagent.node.steadyclock``). ``pulled_hash``: the spec whose image was last pulled.
    ``hooked_id``, ``passed_id`` and ``ready_id`` are the last runs whose postStart hook ended well, that
    passed their startup probe, and that were seen ready. ``again``: to be run once more, however it ended.
    """

    restart_count: int = 0
    started_id: str = ""
    started_at: float = 0
    ended_id: str = ""
    last: ContainerStateTerminated | None = None
    crashes: int = 0
    restart_at: float = 0
    pulled_hash: str = ""
    hooked_id: str = ""
    passed_id: str = ""
    ready_id: str = ""
    again: bool = False


class PodOnNetwork(KubernetesStruct, frozen=True):
    """What policies and Services go by in a pod: kept, for they apply until nothing of it runs any more.

    ``ready``: whether it was when it was last looked at. ``ips`` are those of a pod on the host's network.
    """

    labels: dict[str, str] = {}
    hostname: str = ""
    subdomain: str = ""
    ips: list[str] = []
    ready: bool = False
    host_ports: list[HostPort] = []
    named_ports: list[NamedPort] = []


class PodRecord(KubernetesStruct, frozen=True):
    """One pod's past. ``phase`` is set once it has ended for good (``Succeeded`` or ``Failed``).

    ``reason`` and ``message`` say why, where the node itself ended it. ``initialized``: its init containers
    are done; ``restarted``: the machine was restarted since, so they are to be run anew. ``static``: the pod
    comes from the node's own folder. ``spec`` is kept where stopping the pod needs more than its containers:
    an order, or preStop hooks. ``leaving``: containers with a preStop hook that were taken out of the spec
    and run still. ``network`` is None until the pod was looked at. ``evictions`` is how many in a row count,
    ``evicted_at`` when the last was, and ``active_since`` when the deadline of the pod began to count, both
    by the clock that is never set; ``start_time`` is a date, in seconds since the epoch.
    ``gone``: nothing of the pod is left on the node; the record waits until the hub has been told.
    """

    uid: str
    namespace: str
    name: str
    grace_seconds: int = 30
    start_time: float = 0
    active_since: float = 0
    phase: str = ""
    reason: str = ""
    message: str = ""
    initialized: bool = False
    restarted: bool = False
    static: bool = False
    spec: PodSpec | None = None
    leaving: dict[str, Container] = {}
    host_network: bool = True
    network: PodOnNetwork | None = None
    gone: bool = False
    evictions: int = 0
    evicted_at: float = 0
    containers: dict[str, ContainerHistory] = {}


class PodRecords:
    """The records of all pods, in memory as on disk; ``admitted``: what was admitted of each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.admitted = AdmittedPods(database)
        self.by_uid: dict[str, PodRecord] = {}
        for uid, body in database.rows("SELECT uid, body FROM pod_record"):
            try:
                record = decode_json(body if isinstance(body, bytes) else b"", PodRecord)
            except InvalidObjectError as error:
                # Bookkeeping only: the runtime's own labels say enough to go on without it.
                log.warning("the record of pod %s is unreadable and is begun anew: %s", uid, error)
                continue
            self.by_uid[record.uid] = record

    def put(self, record: PodRecord) -> None:
        """Keep ``record``; it counts in memory even where TemporaryError says that the disk refused it."""
        if self.by_uid.get(record.uid) == record:
            return
        self.by_uid[record.uid] = record
        with self._database.batched() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO pod_record VALUES (?, ?)", (record.uid, canonical_json(record))
            )

    def rebooted(self) -> None:
        """The machine was restarted: what ended with it was no crash, so no pod has to back off."""
        for record in list(self.by_uid.values()):
            histories = {
                name: msgspec.structs.replace(history, crashes=0, restart_at=0.0)
                for name, history in record.containers.items()
            }
            self.put(msgspec.structs.replace(record, containers=histories, restarted=True))

    def remove(self, uid: str) -> None:
        """Forget a pod."""
        if self.by_uid.pop(uid, None) is not None:
            with self._database.batched() as connection:
                connection.execute("DELETE FROM pod_record WHERE uid = ?", (uid,))
