"""The composition root: every part of the agent is made here, handed its means, started and stopped."""

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.facts import Facts
from edgeagent.api.metrics import MetricFamily
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.node import AuditHead, NodeStatus
from edgeagent.node.beginning import adopt_origin, node_facts, note_boot, open_database, say_recovered
from edgeagent.node.config import AgentConfig
from edgeagent.node.events import EventRecorder
from edgeagent.node.identity import HOW_TO_ENROLL, NOT_ENROLLED, NodeIdentity, lone_name
from edgeagent.node.identityguard import guard_identity
from edgeagent.node.localapi import LocalApi
from edgeagent.node.lock import NodeLock
from edgeagent.node.logwiring import LogMeans, make_log_flow, make_spool
from edgeagent.node.metricswiring import Metrics, MetricsMeans
from edgeagent.node.networkwiring import NetworkMeans, cluster_dns, make_network, tell_network
from edgeagent.node.operations import Operations
from edgeagent.node.operationswiring import OperationsMeans, make_operations, tell_audit
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.podreports import PodReports
from edgeagent.node.pods.exits import ExitWatcher
from edgeagent.node.pods.manager import PodManager, Reports
from edgeagent.node.pods.sandbox import Sandboxes, run_program
from edgeagent.node.pods.volumes import SystemMounter, Volumes
from edgeagent.node.pressure.conditions import PressureCondition
from edgeagent.node.pressure.gate import Gate
from edgeagent.node.pressure.manager import PressureManager
from edgeagent.node.pressure.signals import SignalReader
from edgeagent.node.pressurewiring import PressureMeans, make_pressure_manager
from edgeagent.node.readswiring import make_reads
from edgeagent.node.reboot import Runner
from edgeagent.node.static.folder import StaticPods
from edgeagent.node.static.kept import KeptFiles
from edgeagent.node.static.manifest import StaticObject
from edgeagent.node.status import Conditions, collect_facts, host_ip, node_status, system_info
from edgeagent.node.steadyclock import steady_clock
from edgeagent.node.store.desired import Change, DesiredState
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.pods import PodRecords
from edgeagent.node.store.reserve import Reserve
from edgeagent.node.store.snapshots import Snapshots
from edgeagent.node.streamswiring import local_services, make_operator_streams, make_services
from edgeagent.node.summary import Connection, summary
from edgeagent.node.trustedtime import TrustedTime, tell_clock
from edgeagent.wire.join import parse_broker
from edgeagent.wire.topics import Topics

if TYPE_CHECKING:
    from edgeagent.node.uplink import Uplink

log = logging.getLogger(__name__)

STATUS_INTERVAL_SECONDS = 1.0
"""Changes of the node's status within this time are reported as one."""
RUNTIME_FACTS_RETRY_SECONDS = 60.0


class World(msgspec.Struct, frozen=True):
    """What the agent is given of the outside: time, chance, where the file system begins, programs."""

    clock: Clock
    rng: random.Random
    root: Path = Path("/")
    run_program: Runner = run_program


class Agent:
    """One node, made on the loop that runs it. Making it may raise PermanentError for a person to read."""

    def __init__(self, config: AgentConfig, world: World) -> None:
        self._config = config
        self._world = world
        clock, rng = world.clock, world.rng
        self._guarded = guard_identity(config)
        self._identity = identity = self._guarded.files.load_if_enrolled()
        self._name = name = (
            identity.node if identity else lone_name(config.agent.node_name, socket.gethostname())
        )
        self._cluster = identity.cluster if identity else ""
        config.run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._lock = NodeLock(config.run_dir / "agent.lock")
        self._plugins = PluginHost(
            config.plugins,
            node_name=name,
            cluster=self._cluster,
            state_dir=config.state_dir / "plugins",
            run_dir=config.run_dir / "plugins",
            identity_dir=self._guarded.keys,
            clock=clock,
            random=rng,
            on_change=self._node_changed,
            gather=self._gather,
        )
        self._plugins.load()
        # The runtime's worker takes its time to start: meanwhile the store is read.
        self._prepare()
        self._reserve = Reserve(config.state_dir / "agent.reserve", config.agent.reserve_bytes)
        self._database = open_database(config, self._reserve, clock.now())
        self._desired = DesiredState(self._database, now=clock.now())
        if identity is not None:
            adopt_origin(self._desired, identity)
        self._records = PodRecords(self._database)
        self._outbox = Outbox(self._database)
        self._conditions = Conditions()
        self._info = system_info(world.root, "")
        self._time = TrustedTime(self._database, clock)
        note_boot(self._database, self._records, self._outbox, self._info.boot_id)
        self._facts: Sequence[Facts] = ()
        self._status_due: asyncio.TimerHandle | None = None
        self._snapshots = Snapshots(self._database)
        self._uplink: Uplink | None = None
        self._operations: Operations | None = None
        self._events = EventRecorder(
            node=name, outbox=self._outbox, clock=self._time, rng=rng, on_append=self._events_appended
        )
        self._gate = Gate(config.eviction.transition_seconds)
        network = self._plugins.network()
        self._network = make_network(network, self._network_means())
        self._pod_reports = PodReports(
            self._desired, enrolled=identity is not None, uplink=lambda: self._uplink,
            pods=lambda: self._pods, static=lambda: self._static, on_change=self._pods_changed,
        )  # fmt: skip
        self._spool = make_spool(config.state_dir, config.telemetry, clock, self._info.boot_id)
        self._pods = self._pod_manager()
        self._pressure = self._pressure_manager()
        self._static = self._static_pods()
        self._logs = make_log_flow(
            LogMeans(
                node=name, config=config.telemetry, plugins=self._plugins, pods=self._pods, spool=self._spool,
                broker=lambda: self._uplink, events=self._events, clock=clock, rng=rng,
            )
        )  # fmt: skip
        self._metrics = Metrics(
            MetricsMeans(
                node=name, root=world.root, config=config.telemetry, clock=clock, time=self._time, rng=rng,
                events=self._events, plugins=self._plugins, pods=self._pods, status=self.status,
                desired=self._desired, outbox=self._outbox, spool=self._spool, logs=self._logs,
                uplink=lambda: self._uplink,
            )
        )  # fmt: skip
        self._reads = make_reads(
            name, world.root, clock, pods=self._pods, status=self.status, events=self._events.recent,
            network=network, audit=lambda: self._operations.audit if self._operations is not None else None,
        )  # fmt: skip
        self._services = make_services(self._pods, self._plugins.runtime(), clock)
        served = local_services(self._services, self._events)
        self._local = LocalApi(config.run_dir / "api.sock", self._reads, served, self.summary)

    def _gather(self, seconds: float) -> list[MetricFamily]:
        return self._metrics.from_thread(seconds)

    def _pod_manager(self) -> PodManager | None:
        runtime = self._plugins.runtime()
        if runtime is None:
            return None
        disk, memory = self._config.state_dir / "pods", self._config.run_dir / "pods"
        mounter = SystemMounter()
        self._volumes = Volumes(disk=disk, memory=memory, host=self._world.root, mounter=mounter)
        return PodManager(
            clock=steady_clock(self._database, self._time, boot_id=self._info.boot_id),
            today=self._time.now,
            runtime=runtime,
            network=self._network,
            admissions=self._plugins.admissions(self._config.pods.required_admission),
            unsealer=self._plugins.unsealer(),
            desired=self._desired,
            records=self._records,
            events=self._events,
            exits=ExitWatcher(),
            reports=Reports(self._pod_reports.status, self._pod_reports.gone),
            host_ip=host_ip,
            on_problem=self._node_changed,
            on_resync=self._resynced,
            on_started=lambda: self._pressure.started() if self._pressure is not None else None,
            resync_seconds=self._config.agent.resync_seconds,
            rng=self._world.rng,
            node=node_facts(self._config, self._name),
            volumes=self._volumes,
            sandboxes=Sandboxes(
                disk=disk,
                run=memory,
                root=self._world.root,
                mounter=mounter,
                runner=self._world.run_program,
                cluster_dns=lambda: cluster_dns(self._network),
            ),
            folder=disk,
            gate=self._gate,
        )

    def _network_means(self) -> NetworkMeans:
        mqtt, identity = self._config.mqtt, self._identity
        known = identity.brokers if identity is not None else ()
        return NetworkMeans(
            node=self._name,
            clock=self._world.clock,
            rng=self._world.rng,
            events=self._events,
            desired=self._desired,
            static=lambda: self._static,
            manager=lambda: self._pods,
            broker=lambda: self._uplink,
            brokers=mqtt.brokers or [f"{one.host}:{one.port}" for one in known],
            on_change=self._node_changed,
            resync_seconds=self._config.agent.resync_seconds,
        )

    def _pressure_manager(self) -> PressureManager | None:
        runtime, clock = self._plugins.runtime(), self._world.clock
        if self._pods is None or runtime is None:
            return None
        self._signals = SignalReader(root=self._world.root, nodefs=self._config.state_dir)
        return make_pressure_manager(
            self._config,
            PressureMeans(
                clock=clock,
                root=self._world.root,
                signals=self._signals,
                runtime=runtime,
                manager=self._pods,
                volumes=self._volumes,
                reserve=self._reserve,
                events=self._events,
                node=ObjectReference(kind="Node", name=self._name),
                gate=self._gate,
                on_conditions=self._pressure_changed,
            ),
        )

    def _pressure_changed(self, conditions: Sequence[PressureCondition]) -> None:
        now = self._time.now()
        for one in conditions:
            self._conditions.set(one.type, one.status, one.reason, one.message, now)
        if self._pods is not None:
            self._pods.pressure_changed()
        self._node_changed()

    def _static_pods(self) -> StaticPods | None:
        if not self._config.pods.static_pod_path:
            return None
        folder = Path(self._config.pods.static_pod_path)
        about = ObjectReference(kind="Node", name=self._name)
        return StaticPods(
            folder,
            node=self._name,
            clock=self._world.clock,
            kept=KeptFiles(self._config.state_dir / "static.json", node=self._name, folder=folder),
            on_objects=self._static_changed,
            on_problems=self._node_changed,
            warn=lambda reason, message: self._events.record(about, "Warning", reason, message),
        )

    def _static_changed(self, objects: Mapping[str, StaticObject]) -> None:
        if self._pods is not None:
            self._pods.static_changed(objects)
        if self._network is not None:
            self._network.folder_changed()
        if not objects and self._identity is None and self._static is not None:
            log.warning(
                "nothing to run: there is no manifest in %s, and this node is not enrolled. Put Kubernetes "
                "manifests there, or enrol it. %s", self._static.folder, HOW_TO_ENROLL,
            )  # fmt: skip

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until cancelled. Pods first, from the store; the broker when it can be had.

        ``ready`` is called once pods are being worked on and the local socket answers.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._network is not None:
                    tasks.create_task(self._network.run())
                if self._pods is not None:
                    tasks.create_task(self._pods.run())
                if self._pressure is not None:
                    tasks.create_task(self._pressure.run())
                if self._static is not None:
                    tasks.create_task(self._static.run())
                else:
                    self._static_changed({})
                # One turn of the loop, so that pods are begun before anything else is made.
                await asyncio.sleep(0)
                self._local.start()
                say_recovered(self._database, self._events, self._name)
                self._guarded.tell(self._events, self._name)
                self._node_changed()
                if self._identity is not None:
                    self._make_uplink(self._identity)
                else:
                    self._stand_alone()
                if self._uplink is not None:
                    tasks.create_task(self._uplink.run())
                tasks.create_task(self._describe_runtime())
                tasks.create_task(self._logs.run())
                tasks.create_task(self._metrics.run())
                await self._plugins.start()
                ready()
                await asyncio.Event().wait()  # plugins may have work where the core has none
        finally:
            await self._stop()

    async def _stop(self) -> None:
        await self._local.stop()
        if self._status_due is not None:
            self._status_due.cancel()
        self._snapshots.finish()
        await self._metrics.stop()
        await self._plugins.stop()
        await self._spool.close()
        self._time.close()
        self._database.close()
        self._lock.release()

    def _stand_alone(self) -> None:
        log.info("this node is not enrolled: it runs as %s, by itself", self._name)
        self._conditions.set("Connected", False, NOT_ENROLLED, HOW_TO_ENROLL, self._time.now())
        if self._static is None:
            log.warning(
                "nothing to run: static pods are switched off, and this node is not enrolled. %s",
                HOW_TO_ENROLL,
            )

    def _make_uplink(self, identity: NodeIdentity) -> None:
        # Imported only now, with paho and TLS: a cold boot starts its pods first.
        from edgeagent.node.uplink import Uplink, UplinkParts

        mqtt = self._config.mqtt
        unsealer, remote = self._plugins.unsealer(), self._config.remote
        streams = make_operator_streams(identity, self._services, unsealer, remote, self._time)
        self._operations = operations = make_operations(
            OperationsMeans(
                cluster=identity.cluster, node=identity.node, ca=self._guarded.files.ca,
                database=self._database, outbox=self._outbox, desired=self._desired,
                reads=self._reads.methods, streams=streams.methods,
                reboot_command=self._config.agent.reboot_command,
                run_program=self._world.run_program, root=self._world.root,
                boot_id=self._info.boot_id, now=self._time.now, on_audit=self._audited,
            )
        )  # fmt: skip
        brokers = [parse_broker(text, tls=mqtt.tls) for text in mqtt.brokers] or identity.brokers
        try:
            self._uplink = Uplink(
                UplinkParts(
                    identity=identity,
                    files=self._guarded.files,
                    brokers=brokers,
                    mqtt=mqtt,
                    events=self._events,
                    database=self._database,
                    desired=self._desired,
                    outbox=self._outbox,
                    topics=Topics(identity.cluster),
                    clock=self._world.clock,
                    time=self._time,
                    rng=self._world.rng,
                    operations=operations,
                    streams=streams,
                    on_switch=self._switched,
                    on_change=self._uplink_changed,
                    prepare=self._prepare,
                    forget=self._pod_reports.forget,
                )
            )
        except PermanentError as error:
            # A broken certificate must not keep a single pod from running.
            log.error("the broker cannot be used: %s", error)
            self._conditions.set("Connected", False, "BadIdentity", str(error), self._time.now())
            return
        self._uplink.report_node(self.status())
        self._pod_reports.all(self._records.by_uid.values())

    def _prepare(self) -> None:
        if (runtime := self._plugins.runtime()) is not None:
            runtime.warm()

    def _switched(self, change: Change) -> None:
        if self._pods is not None:
            self._pods.changed(change)
        self._wake_network()
        self._pod_reports.static_changed()
        self._node_changed()
        self._snapshots.changed()

    def _uplink_changed(self) -> None:
        if self._uplink is not None and self._uplink.connected:
            self._metrics.flow.connected()
        self._wake_network()
        self._node_changed()

    def _resynced(self) -> None:
        self._node_changed()
        self._logs.targets_changed()

    def _pods_changed(self) -> None:
        self._wake_network()
        self._logs.targets_changed()

    def _wake_network(self) -> None:
        if self._network is not None:
            self._network.wake()

    def _events_appended(self) -> None:
        if self._uplink is not None:
            self._uplink.events_appended()

    def _audited(self) -> None:
        self._events_appended()
        self._node_changed()

    def _node_changed(self) -> None:
        """Something of the node's status may differ; report it, but not more often than once in a while."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._status_due is None:
            self._status_due = loop.call_soon(self._report_status)  # type: ignore[assignment]

    def _report_status(self) -> None:
        loop = asyncio.get_running_loop()
        self._status_due = loop.call_later(STATUS_INTERVAL_SECONDS, self._status_settled)
        self._reported = self.status()
        if self._uplink is not None:
            self._uplink.report_node(self._reported)

    def _status_settled(self) -> None:
        self._status_due = None
        if self.status() != self._reported:
            self._node_changed()

    def status(self) -> NodeStatus:
        """The node's status as it is now."""
        now = self._time.now()
        problem = ("NoRuntime", "no runtime plugin is loaded") if self._pods is None else self._pods.problem
        self._conditions.set("Ready", problem is None, *(problem or ("AgentReady", "")), now)
        public_key = tell_network(self._conditions, self._network, now, self._database, self._guarded.files)
        tell_audit(self._conditions, self._operations, now)
        tell_clock(self._conditions, self._time, now)
        for condition in self._uplink.conditions if self._uplink is not None else ():
            self._conditions.set(*condition, now)
        return node_status(
            generation=self._desired.generation,
            conditions=self._conditions,
            info=self._info,
            address=host_ip(),
            disk=self._config.state_dir,
            plugins=self._plugins.statuses(),
            facts=self._facts,
            public_key=public_key,
            audit=self._operations.audit.head if self._operations is not None else AuditHead(),
        )

    def summary(self) -> dict[str, object]:
        """What ``edgeagent status`` shows."""
        up = self._uplink
        return summary(
            node=self._name,
            cluster=self._cluster,
            enrolled=self._identity is not None,
            connection=Connection() if up is None else Connection(up.broker, up.connected, up.last_error),
            generation=self._desired.generation,
            outbox=self._outbox,
            status=self.status(),
            static=self._static,
            logs=self._logs,
            metrics=self._metrics.flow,
        )

    async def _describe_runtime(self) -> None:
        """What the runtime is and what plugins know of the node: asked once, when the pods are under way."""
        runtime = self._plugins.runtime()
        while runtime is not None:
            with contextlib.suppress(EdgeAgentError):
                found = await runtime.info()
                self._info = system_info(self._world.root, f"{found.name}://{found.version}")
                self._signals.imagefs = Path(await runtime.storage_path())
                break
            await self._world.clock.sleep(RUNTIME_FACTS_RETRY_SECONDS)
        self._facts = await collect_facts(self._plugins.node_facts())
        self._node_changed()
