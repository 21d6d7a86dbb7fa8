"""Logs joined to the pods, the plugins and the broker of this node: a part of the composition root."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import TemporaryError
from edgeagent.api.logs import LogOrigin, LogTarget
from edgeagent.api.objects.base import ObjectMeta, ObjectReference
from edgeagent.api.runtime import (
    LABEL_CONTAINER,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    ContainerRecord,
)
from edgeagent.node.config import TelemetrySection
from edgeagent.node.events import EventRecorder
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.store.spool import Spool
from edgeagent.node.telemetry.brokersink import BrokerSink
from edgeagent.node.telemetry.logflow import LogFlow
from edgeagent.node.telemetry.logshipper import Sinks
from edgeagent.node.telemetry.spoolthread import SpoolThread
from edgeagent.wire.logreport import encode_reports


class Broker(Protocol):
    """The connection to it, as far as logs need it."""

    @property
    def payload_limit(self) -> int:
        """The most bytes that a message may have; 0 while there is no connection."""

    async def publish_logs(self, payload: bytes) -> None:
        """Publish on the node's topic for logs."""


class LogMeans(msgspec.Struct, frozen=True):
    """What of the agent logs work with. ``broker`` is None while the node has no cluster."""

    node: str
    config: TelemetrySection
    plugins: PluginHost
    pods: PodManager | None
    spool: SpoolThread
    broker: Callable[[], Broker | None]
    events: EventRecorder
    clock: Clock
    rng: random.Random


def make_spool(folder: Path, config: TelemetrySection, clock: Clock, boot_id: str) -> SpoolThread:
    """The spool in ``folder``; there is no file before something has to be kept."""

    def open_spool(path: Path) -> Spool:
        return Spool(path, config.budgets, boot_id=boot_id, now=clock.now())

    return SpoolThread(folder / "telemetry.db", open_spool)


def make_log_flow(means: LogMeans) -> LogFlow:
    """The flow of this node's logs."""
    about = ObjectReference(kind="Node", name=means.node)

    def refused(sink: str, text: str) -> None:
        means.events.record(about, "Warning", "LogSinkRefused", f"sink {sink}: {text}")

    sinks: list[Sinks] = [*means.plugins.log_sinks()]
    if means.config.logs_to_broker:
        sinks.append(_broker_sink(means.broker))
    return LogFlow(
        means.plugins.log_sources(),
        sinks,
        means.spool,
        targets=LogTargets(means.pods).look if means.pods is not None else lambda: [],
        clock=means.clock,
        rng=means.rng,
        rate=means.config.drain_bytes,
        on_refused=refused,
    )


class LogTargets:
    """The containers of ``pods`` that have a log: those that ended too, while they are there.

    Of a pod that is desired no longer it tells what it told last: its containers may have much to say yet.
    """

    def __init__(self, pods: PodManager) -> None:
        self._pods = pods
        self._metadata: dict[str, ObjectMeta] = {}

    def look(self) -> list[LogTarget] | None:
        """By their ids; None before the runtime has said which there are."""
        if (containers := self._pods.containers()) is None:
            return None
        pods = self._pods.pods()
        uids = {one.labels.get(LABEL_POD_UID, "") for one in containers}
        self._metadata = {
            uid: pods[uid].metadata if uid in pods else meta
            for uid, meta in (*self._metadata.items(), *((uid, pod.metadata) for uid, pod in pods.items()))
            if uid in uids
        }
        found = [self._target(one) for one in containers if one.log_path and LABEL_CONTAINER in one.labels]
        return sorted(found, key=lambda target: target.origin.container_id)

    def _target(self, one: ContainerRecord) -> LogTarget:
        uid = one.labels.get(LABEL_POD_UID, "")
        meta = self._metadata.get(uid) or ObjectMeta(
            name=one.labels.get(LABEL_POD_NAME, ""), namespace=one.labels.get(LABEL_POD_NAMESPACE, "")
        )
        origin = LogOrigin(
            namespace=meta.namespace,
            pod=meta.name,
            pod_uid=uid,
            container=one.labels[LABEL_CONTAINER],
            container_id=one.id,
            image=one.image,
            labels=meta.labels,
        )
        return LogTarget(origin=origin, path=one.log_path, annotations=meta.annotations)


def _broker_sink(broker: Callable[[], Broker | None]) -> BrokerSink:
    async def publish(payload: bytes) -> None:
        if (connection := broker()) is None:
            raise TemporaryError("this node has no cluster", reason="Disconnected")
        await connection.publish_logs(payload)

    def limit() -> int:
        connection = broker()
        return connection.payload_limit if connection is not None else 0

    return BrokerSink(publish, encode=encode_reports, limit=limit)
