"""PodReports: what of this node's pods the hub is told, and when a pod that is gone may be forgotten."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.static.folder import StaticPods
from edgeagent.node.store.desired import DesiredState
from edgeagent.node.store.pods import PodRecord
from edgeagent.wire.reports import PodReport, mirror_of


class PodUplink(Protocol):
    """The connection to the hub, as far as pods need it."""

    def report_pod(self, namespace: str, name: str, report: PodReport) -> None:
        """A pod's status is now this."""

    def clear_pod(self, namespace: str, name: str, uid: str) -> None:
        """Nothing of a pod is left on this node."""


class PodReports:
    """Reports by the uplink, where there is one. ``enrolled``: whether there will be one.

    ``uplink``, ``pods`` and ``static`` give what is made after this is. ``on_change`` is called whenever a
    pod differs, whoever is told.
    """

    def __init__(
        self,
        desired: DesiredState,
        *,
        enrolled: bool,
        uplink: Callable[[], PodUplink | None],
        pods: Callable[[], PodManager | None],
        static: Callable[[], StaticPods | None],
        on_change: Callable[[], None],
    ) -> None:
        self._desired = desired
        self._enrolled = enrolled
        self._uplink = uplink
        self._pods = pods
        self._static = static
        self._on_change = on_change

    def all(self, records: Iterable[PodRecord]) -> None:
        """Everything, for an uplink that has just been made."""
        # First what is gone, then what is there: a new pod may have the name of one that is gone.
        for record in records:
            if record.gone:
                self.gone(record)
        if (pods := self._pods()) is not None:
            for pod, status in pods.statuses():
                if status.phase != "Unknown":  # what the hub knows is better than that
                    self.status(pod, status)

    def status(self, pod: Pod, status: PodStatus) -> None:
        """The pod's status is now this."""
        self._on_change()
        if (uplink := self._uplink()) is None:
            return
        meta, static = pod.metadata, self._static()
        mirror = None
        if static is not None and meta.uid in static.objects:
            if self._hub_has(meta.namespace, meta.name):
                return
            mirror = mirror_of(pod)
        report = PodReport(uid=meta.uid, generation=meta.generation, status=status, pod=mirror)
        uplink.report_pod(meta.namespace, meta.name, report)

    def gone(self, record: PodRecord) -> None:
        """Nothing of the pod is left."""
        self._on_change()
        if (uplink := self._uplink()) is not None:
            uplink.clear_pod(record.namespace, record.name, record.uid)
            self.static_changed()
        elif not self._enrolled:
            # There is nobody to tell first. Not at once: whoever says this may be going through the records.
            asyncio.get_running_loop().call_soon(self.forget, record.uid)

    def static_changed(self) -> None:
        """A pod of the hub may have come or gone whose name is that of a static one."""
        pods, static = self._pods(), self._static()
        if pods is None or static is None or not static.objects:
            return
        for pod, status in pods.statuses():
            if pod.metadata.uid in static.objects and status.phase != "Unknown":
                self.status(pod, status)

    def forget(self, uid: str) -> None:
        """The hub knows that the pod is gone."""
        if (pods := self._pods()) is not None:
            pods.forget(uid)

    def _hub_has(self, namespace: str, name: str) -> bool:
        """Whether desired state has a pod of that name: the hub then shows that one, and no mirror."""
        return any(
            (entry.kind, entry.namespace, entry.name) == ("Pod", namespace, name)
            for entry in self._desired.entries.values()
        )
