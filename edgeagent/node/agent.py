"""The composition root: every part of the agent is made here, handed its means, started and stopped."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.facts import Facts
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.node.config import AgentConfig
from edgeagent.node.events import EventRecorder
from edgeagent.node.identity import IdentityDir
from edgeagent.node.localapi import LocalApi
from edgeagent.node.lock import NodeLock
from edgeagent.node.plugins.host import PluginHost
from edgeagent.node.pods.exits import ExitWatcher
from edgeagent.node.pods.manager import PodManager, Reports
from edgeagent.node.reads import NodeReads
from edgeagent.node.status import Conditions, host_ip, node_status, system_info
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import Change, DesiredState, get_meta, set_meta
from edgeagent.node.store.outbox import Outbox
from edgeagent.node.store.pods import PodRecord, PodRecords
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.join import parse_broker
from edgeagent.wire.reports import PodReport
from edgeagent.wire.topics import Topics

if TYPE_CHECKING:
    from edgeagent.node.uplink import Uplink

log = logging.getLogger(__name__)

SNAPSHOT_DELAY_SECONDS = 30.0
"""After a switch, so that a burst of them makes one copy, and not while containers are being started."""
STATUS_INTERVAL_SECONDS = 1.0
"""Changes of the node's status within this time are reported as one."""
RUNTIME_FACTS_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class World:
    """What the agent is given of the outside: time, chance, and where the file system begins."""

    clock: Clock
    rng: random.Random
    root: Path = Path("/")


class Agent:
    """One node, made on the loop that runs it. Making it may raise PermanentError for a person to read."""

    def __init__(self, config: AgentConfig, world: World) -> None:
        self._config = config
        self._world = world
        clock, rng = world.clock, world.rng
        self._identity_dir = IdentityDir(config.state_dir / "identity")
        self._identity = self._identity_dir.load()
        name = self._identity.node
        self._topics = Topics(self._identity.cluster)
        config.run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._lock = NodeLock(config.run_dir / "agent.lock")
        self._plugins = PluginHost(
            config.plugins,
            node_name=name,
            cluster=self._identity.cluster,
            state_dir=config.state_dir / "plugins",
            run_dir=config.run_dir / "plugins",
            identity_dir=self._identity_dir.path,
            clock=clock,
            random=rng,
            on_change=self._node_changed,
        )
        self._plugins.load()
        # The runtime's worker takes its time to start: meanwhile the store is read.
        self._prepare()
        self._database = Database(
            config.state_dir / "agent.db", now=clock.now(), spare=config.run_dir / "agent.db"
        )
        self._desired = DesiredState(self._database, now=clock.now())
        self._adopt_origin()
        self._records = PodRecords(self._database)
        self._outbox = Outbox(self._database)
        self._conditions = Conditions()
        self._info = system_info(world.root, "")
        self._note_boot()
        self._facts: Sequence[Facts] = ()
        self._status_due: asyncio.TimerHandle | None = None
        self._snapshot_due: asyncio.TimerHandle | None = None
        self._uplink: Uplink | None = None
        self._events = EventRecorder(
            node=name, outbox=self._outbox, clock=clock, rng=rng, on_append=self._events_appended
        )
        self._pods = self._pod_manager()
        self._reads = NodeReads(name=name, pods=self._pods, status=self.status)
        self._local = LocalApi(config.run_dir / "api.sock", self._reads, agent_status=self.summary)

    def _pod_manager(self) -> PodManager | None:
        runtime = self._plugins.runtime()
        if runtime is None:
            return None
        return PodManager(
            clock=self._world.clock,
            runtime=runtime,
            network=self._plugins.network(),
            admissions=self._plugins.admissions(),
            unsealer=self._plugins.unsealer(),
            desired=self._desired,
            records=self._records,
            events=self._events,
            exits=ExitWatcher(),
            reports=Reports(self._pod_status, self._pod_gone),
            host_ip=host_ip,
            on_problem=self._node_changed,
            resync_seconds=self._config.agent.resync_seconds,
        )

    def _adopt_origin(self) -> None:
        try:
            self._desired.adopt_origin(digest(canonical_json(self._identity.trust)))
        except TemporaryError as error:
            log.warning("a full disk keeps this enrolment from being noted: %s", error)

    def _note_boot(self) -> None:
        """Tell a restart of the machine from one of the agent (by ``/proc/sys/kernel/random/boot_id``)."""
        try:
            if self._database.recovered or get_meta(self._database, "boot_id") != self._info.boot_id:
                self._records.rebooted()
                self._outbox.skip_ahead()
                set_meta(self._database, [("boot_id", self._info.boot_id)])
        except TemporaryError as error:
            log.warning("a full disk keeps this boot from being noted: %s", error)

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until cancelled. Pods first, from the store; the broker when it can be had.

        ``ready`` is called once pods are being worked on and the local socket answers.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._pods is not None:
                    tasks.create_task(self._pods.run())
                # One turn of the loop, so that pods are begun before anything else is made.
                await asyncio.sleep(0)
                self._local.start()
                self._say_recovered()
                self._node_changed()
                self._make_uplink()
                if self._uplink is not None:
                    tasks.create_task(self._uplink.run())
                tasks.create_task(self._describe_runtime())
                await self._plugins.start()
                ready()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        self._local.stop()
        if self._status_due is not None:
            self._status_due.cancel()
        if self._snapshot_due is not None:
            self._snapshot_due.cancel()
            self._snapshot()
        await self._plugins.stop()
        self._database.close()
        self._lock.release()

    def _make_uplink(self) -> None:
        # Imported only now, with paho and TLS: a cold boot starts its pods first.
        from edgeagent.node.uplink import Uplink, UplinkParts

        mqtt, identity = self._config.mqtt, self._identity
        brokers = [parse_broker(text, tls=mqtt.tls) for text in mqtt.brokers] or identity.brokers
        try:
            self._uplink = Uplink(
                UplinkParts(
                    identity=identity,
                    files=self._identity_dir,
                    brokers=brokers,
                    mqtt=mqtt,
                    database=self._database,
                    desired=self._desired,
                    outbox=self._outbox,
                    topics=self._topics,
                    clock=self._world.clock,
                    rng=self._world.rng,
                    methods={"logs": self._reads.logs_call},
                    on_switch=self._switched,
                    on_change=self._node_changed,
                    prepare=self._prepare,
                    forget=self._forget,
                )
            )
        except PermanentError as error:
            # A broken certificate must not keep a single pod from running.
            log.error("the broker cannot be used: %s", error)
            self._conditions.set("Connected", False, "BadIdentity", str(error), self._world.clock.now())
            return
        self._uplink.report_node(self.status())
        # First what is gone, then what is there: a new pod may have the name of one that is gone.
        for record in self._records.by_uid.values():
            if record.gone:
                self._pod_gone(record)
        if self._pods is not None:
            for pod, status in self._pods.statuses():
                if status.phase != "Unknown":  # what the hub knows is better than that
                    self._pod_status(pod, status)

    def _prepare(self) -> None:
        if (runtime := self._plugins.runtime()) is not None:
            runtime.warm()

    def _switched(self, change: Change) -> None:
        if self._pods is not None:
            self._pods.changed(change)
        self._node_changed()
        if self._snapshot_due is None:
            loop = asyncio.get_running_loop()
            self._snapshot_due = loop.call_later(SNAPSHOT_DELAY_SECONDS, self._begin_snapshot)

    def _begin_snapshot(self) -> None:
        making = asyncio.get_running_loop().run_in_executor(None, self._snapshot)
        making.add_done_callback(self._end_snapshot)

    def _end_snapshot(self, _made: "asyncio.Future[None]") -> None:
        self._snapshot_due = None

    def _snapshot(self) -> None:
        try:
            self._database.snapshot()
        except EdgeAgentError as error:
            log.warning("no snapshot of the store could be made: %s", error)

    def _pod_status(self, pod: Pod, status: PodStatus) -> None:
        if self._uplink is not None:
            meta = pod.metadata
            report = PodReport(uid=meta.uid, generation=meta.generation, status=status)
            self._uplink.report_pod(meta.namespace, meta.name, report)

    def _pod_gone(self, record: PodRecord) -> None:
        if self._uplink is not None:
            self._uplink.clear_pod(record.namespace, record.name, record.uid)

    def _forget(self, uid: str) -> None:
        if self._pods is not None:
            self._pods.forget(uid)

    def _events_appended(self) -> None:
        if self._uplink is not None:
            self._uplink.events_appended()

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
        now = self._world.clock.now()
        problem = ("NoRuntime", "no runtime plugin is loaded") if self._pods is None else self._pods.problem
        self._conditions.set("Ready", problem is None, *(problem or ("AgentReady", "")), now)
        if self._uplink is not None:
            refused = self._uplink.problem
            self._conditions.set("DesiredStateInForce", refused is None, *(refused or ("InForce", "")), now)
            connected, why = self._uplink.connected, self._uplink.last_error
            self._conditions.set(
                "Connected", connected, "Connected" if connected else "Disconnected", why, now
            )
        return node_status(
            generation=self._desired.generation,
            conditions=self._conditions,
            info=self._info,
            address=host_ip(),
            plugins=self._plugins.statuses(),
            facts=self._facts,
        )

    def summary(self) -> dict[str, object]:
        """What ``edgeagent status`` shows."""
        return {
            "node": self._identity.node,
            "cluster": self._identity.cluster,
            "broker": self._uplink.broker if self._uplink is not None else "",
            "connected": self._uplink.connected if self._uplink is not None else False,
            "lastError": self._uplink.last_error if self._uplink is not None else "",
            "generation": self._desired.generation,
            "outbox": len(self._outbox.first(1000)),
            "status": self.status(),
        }

    def _say_recovered(self) -> None:
        if self._database.recovered:
            about = ObjectReference(kind="Node", name=self._identity.node)
            self._events.record(about, "Warning", "StoreRecovered", self._database.recovered)

    async def _describe_runtime(self) -> None:
        """What the runtime is and what plugins know of the node: asked once, when the pods are under way."""
        runtime = self._plugins.runtime()
        while runtime is not None:
            with contextlib.suppress(EdgeAgentError):
                found = await runtime.info()
                self._info = system_info(self._world.root, f"{found.name}://{found.version}")
                break
            await self._world.clock.sleep(RUNTIME_FACTS_RETRY_SECONDS)
        facts = []
        for source in self._plugins.node_facts():
            try:
                facts.append(await source.facts())
            except EdgeAgentError as error:
                log.warning("a plugin's facts are left out: %s", error)
        self._facts = facts
        self._node_changed()
