"""Which pods were admitted, and as what: it holds whatever becomes of the settings they were judged by."""

import logging

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.pod import PodSpec
from edgeagent.node.store.database import Database
from edgeagent.wire.canonical import canonical_json

log = logging.getLogger(__name__)


class Admitted(KubernetesStruct, frozen=True):
    """``wanted`` is the digest of the spec that was asked for, ``spec`` what may run in its place."""

    wanted: str
    spec: PodSpec


class AdmittedPods:
    """What was admitted last of each pod, by uid. Read when it is first asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Admitted | None] = {}

    def get(self, uid: str) -> Admitted | None:
        """What was admitted of the pod, or None."""
        if uid not in self._known:
            self._known[uid] = self._read(uid)
        return self._known[uid]

    def _read(self, uid: str) -> Admitted | None:
        rows = self._database.rows("SELECT body FROM admitted WHERE uid = ?", (uid,))
        try:
            return next((decode_json(body, Admitted) for (body,) in rows if isinstance(body, bytes)), None)
        except InvalidObjectError as error:
            log.warning(
                "what was admitted of pod %s is unreadable, so that it is judged anew: %s", uid, error
            )
            return None

    def put(self, uid: str, admitted: Admitted) -> None:
        """Keep it; where the disk takes nothing, it counts for as long as the agent runs."""
        if self.get(uid) == admitted:
            return
        self._known[uid] = admitted
        try:
            with self._database.durable() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO admitted VALUES (?, ?)", (uid, canonical_json(admitted))
                )
        except EdgeAgentError as error:
            log.warning("that pod %s was admitted could not be written: %s", uid, error)

    def remove(self, uid: str) -> None:
        """Forget a pod of which nothing is left."""
        if self.get(uid) is None:
            return
        self._known.pop(uid)
        try:
            with self._database.batched() as connection:
                connection.execute("DELETE FROM admitted WHERE uid = ?", (uid,))
        except EdgeAgentError as error:
            log.warning("that pod %s was admitted could not be forgotten: %s", uid, error)
