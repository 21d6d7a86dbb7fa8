"""One pod's worker: compares what is wanted with what is there, takes the next steps, and sleeps.

Level-triggered: whatever woke it, it looks at everything anew. Killed at any instruction, its successor
finds in the runtime's labels and the pod's record all that it needs to go on. A step of one container is a
task of its own, so that a long pull, hook or stop holds back nothing but what must come after it.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.api.objects.unsupported import unsupported
from edgeagent.api.runtime import LABEL_CONTAINER
from edgeagent.node.pods import containers as decisions
from edgeagent.node.pods.attaching import attach, lacks_network, recall
from edgeagent.node.pods.config import record_of
from edgeagent.node.pods.ending import STRAY, Ending, leaving, needs_spec_to_stop
from edgeagent.node.pods.eviction import Eviction
from edgeagent.node.pods.hosts import missing_cluster_dns
from edgeagent.node.pods.images import SIGNATURE_REFUSED
from edgeagent.node.pods.means import Means
from edgeagent.node.pods.plan import Plan, Seen, Slot, make_plan, slots
from edgeagent.node.pods.podstate import PAUSE, RETRY_CEILING_SECONDS, PodState
from edgeagent.node.pods.probing import Probing
from edgeagent.node.pods.status import Problem
from edgeagent.node.pods.steps import Steps
from edgeagent.node.pods.termination import message_limit, read_message, termination_file

log = logging.getLogger(__name__)

PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", SIGNATURE_REFUSED})
GONE = -1.0


class PodWorker:
    """Runs for as long as there is anything of the pod: in desired state, in the runtime, or in a record."""

    def __init__(self, uid: str, means: Means) -> None:
        self.uid = uid
        self._means = means
        self._news = asyncio.Event()
        self._state = PodState(uid, means)
        self._steps = Steps(self._state)
        self._probing = Probing(self._state, self._steps, self.wake)
        self._ending = Ending(self._state, self._steps)
        self._eviction = Eviction(self._state)
        self._actions: dict[str, asyncio.Task[None]] = {}
        self._failures = 0
        self._stale = True
        """Whether volumes and sandbox are to be looked at before a container is made."""

    @property
    def status(self) -> PodStatus:
        """The last status reported."""
        return self._state.status

    def wake(self) -> None:
        """Look again."""
        self._news.set()

    def refresh(self) -> None:
        """What the pod's volumes are made of has changed: bring them up to date."""
        self._stale = True
        self.wake()

    def retry_now(self, *, changed: bool) -> None:
        """Desired state is new: what waits for a part of it may go on, or be refused no longer.

        A pull is waited for unless this very pod has ``changed``: the registry heard of nothing.
        """
        state = self._state
        waiting = [r for r in state.retries.values() if changed or r.problem.reason not in PULL_REASONS]
        for retry in waiting:
            retry.until = 0.0
        self._stale = self._stale or changed or state.unprepared is not None
        if waiting or state.refused is not None or self._stale:
            self.wake()

    def evict(self, message: str, grace: float | None) -> None:
        """End the pod until the node can bear it again; ``grace`` in seconds, None for the pod's own."""
        pod = self._state.pod or self._means.wanted(self.uid)
        if pod is None or self._state.record(pod).phase:
            return
        self._ending.grace = grace
        self._eviction.note(pod, message)
        self.wake()

    async def over(self) -> None:
        """Wait until the pod, once ended, has given back what it held."""
        await self._ending.over.wait()

    async def run(self) -> None:
        """Until the pod is gone for good."""
        try:
            while True:
                self._news.clear()
                begun = self._means.clock.monotonic()
                try:
                    delay = await self._pass()
                except EdgeAgentError as error:
                    delay = self._trouble(error)
                self._means.passes.observe(self._means.clock.monotonic() - begun)
                if delay == GONE:
                    return
                await self._sleep(delay)
        finally:
            self._probing.close()
            await self._cancel_actions(self._actions)

    def _trouble(self, error: EdgeAgentError) -> float:
        self._means.trouble(error)
        delay = self._later(error)
        log.warning("pod %s: %s; trying again in %.0f s", self.uid, error, delay)
        self._state.trouble = Problem(getattr(error, "reason", "") or "RuntimeError", str(error))
        if (pod := self._means.wanted(self.uid)) is not None:
            self._state.report(self._state.pod or pod)
        return delay

    def _later(self, error: EdgeAgentError) -> float:
        """How long to wait after one more failure of a whole pass."""
        window = min(RETRY_CEILING_SECONDS, 2.0 ** min(self._failures, 10))
        self._failures += 1
        return max(getattr(error, "delay", None) or 0.0, window)

    async def _sleep(self, delay: float | None) -> None:
        if delay is None:
            await self._news.wait()
            return
        sleeper = asyncio.ensure_future(self._means.clock.sleep(delay))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({sleeper, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            news.cancel()

    async def _pass(self) -> float | None:
        """Begin all steps that can be taken now; seconds until the next look, None: when woken."""
        self._reap()
        problem = await self._collect_ends()
        pod = self._means.wanted(self.uid)
        if pod is None:
            await self._tear_down()
            return GONE
        state = self._state
        if self._means.in_the_way(pod):
            state.refused = Problem("PreviousPodTerminating", "a pod of the same name is still being stopped")
            state.report(pod)
            return None
        try:
            accepted = await self._accept(pod)
        except (PermanentError, TemporaryError) as error:
            return await self._refuse(pod, error, problem)
        return None if accepted is None else await self._carry_on(accepted, problem)

    async def _accept(self, pod: Pod) -> Pod | None:
        """The pod as it may run; None where it waits for the pressure on the node to pass."""
        if wrong := unsupported(pod):
            raise PermanentError("; ".join(str(one) for one in wrong), reason="FieldNotSupported")
        state = self._state
        pod = state.pod = await self._means.admissions.admit(pod)
        self._note_admitted(pod)
        if not state.record(pod).phase:
            if self._eviction.held_back(pod):
                return None
            await attach(state, pod)
        state.refused = None
        return pod

    async def _refuse(
        self, pod: Pod, error: PermanentError | TemporaryError, problem: EdgeAgentError | None
    ) -> float | None:
        """Say why the pod may not run as it is desired now; what runs of it goes on as it was admitted last.

        Where it is not known what was admitted, only its end is seen to.
        """
        state = self._state
        await recall(state, pod)
        before = self._ending.as_before(pod)
        later = self._later(error) if isinstance(error, TemporaryError) else None
        if not state.record(pod).phase:
            state.refuse(before, error.reason or ("Refused" if later is None else "Waiting"), str(error))
            if not self._means.containers(self.uid):
                return later
            left = None if state.pod is not None else self._ending.check_deadline(pod)
            if state.pod is None and not state.record(pod).phase:
                state.report(before)
                return min((wait for wait in (later, left) if wait is not None), default=None)
        if state.record(pod).phase:
            state.refused = None
        failures = self._failures
        delay = await self._carry_on(before, problem)
        if later is None:
            return delay
        self._failures = failures
        return later if delay is None else min(later, delay)

    async def _carry_on(self, pod: Pod, problem: EdgeAgentError | None) -> float | None:
        """The rest of a pass over a pod that may run."""
        state, delay = self._state, await self._go_on(pod, problem)
        strays = (retry.problem for name, retry in state.retries.items() if name.startswith(STRAY))
        state.trouble, self._failures = next(strays, None), 0
        if self._steps.idle.issuperset(self._actions.values()):  # others report, and are looked at again
            state.report(pod)
        return delay

    async def _go_on(self, pod: Pod, problem: EdgeAgentError | None) -> float | None:
        """Begin the steps of its containers, or end it; seconds until the next look."""
        state, places = self._state, list(slots(pod.spec))
        left = self._ending.check_deadline(pod)
        if state.record(pod).phase:
            await self._finish(pod, places)
            return self._return(pod) if self._eviction.noted(pod) else None
        delays = [] if left is None else [left]
        delays += self._remove_strays(pod, places)
        if (wait := await self._prepare(pod)) is not None:
            delays.append(wait)
        for slot in places:
            self._note(pod, slot)
        seen = {slot.name: state.seen(pod, slot) for slot in places}
        plan = make_plan(places, seen, initialized=state.record(pod).initialized)
        if plan.initialized != state.record(pod).initialized:
            state.update(pod, initialized=plan.initialized)
        self._probing.sync(pod, places, seen)
        delays += self._act(pod, plan, seen)
        if plan.phase and not self._actions:
            if not state.record(pod).phase:  # it may have been evicted meanwhile
                state.update(pod, phase=plan.phase)
            await self._finish(pod, places)
        if problem is not None:
            raise problem
        return min(delays, default=None)

    def _remove_strays(self, pod: Pod, places: list[Slot]) -> list[float]:
        """Begin to take away what the spec has no longer; the seconds until it is tried again."""
        delays, strays, retries = [], self._ending.strays(pod, places), self._state.retries
        for name in [one for one in retries if one.startswith(STRAY) and one[len(STRAY) :] not in strays]:
            del retries[name]  # it went without our doing
        for name, stray in strays.items():
            if self._busy(name):
                continue
            if (left := self._state.left_to_wait(STRAY + name)) > 0:
                delays.append(left)
            else:
                self._begin(pod, STRAY + name, self._ending.remove_stray(pod, name, stray))
        return delays

    def _busy(self, name: str) -> bool:
        """Whether a step of the container is under way."""
        return name in self._actions or STRAY + name in self._actions

    async def _prepare(self, pod: Pod) -> float | None:
        """Volumes, files and namespaces around the containers; seconds until it is tried again."""
        state = self._state
        if state.refused is not None and lacks_network(state, pod):
            state.unprepared = state.refused
            return None
        if not self._stale and (left := state.left_to_wait("")) > 0:
            return left
        try:
            if self._stale or state.sandbox is None or state.unprepared is not None:
                self._stale = False
                first = state.sandbox is None and not self._means.containers(self.uid)
                state.sandbox = await self._means.sandboxes.prepare(pod, state.ips(pod))
                if first and state.sandbox.misses_cluster_dns:
                    state.event(pod, "Warning", "MissingClusterDNS", missing_cluster_dns(pod))
                await self._means.volumes.prepare(state.facts(pod), self._means.lookup(pod))
            await self._steps.ensure_pause(pod)
        except EdgeAgentError as error:
            return self._unprepared(pod, error)
        state.retries.pop("", None)
        state.unprepared = None
        return None

    def _unprepared(self, pod: Pod, error: EdgeAgentError) -> float:
        state = self._state
        problem = Problem(getattr(error, "reason", "") or "FailedMount", str(error))
        # A pod that was deleted meanwhile lacks its ConfigMaps rightly.
        if problem != state.unprepared and self._means.wanted(self.uid) is not None:
            state.event(pod, "Warning", problem.reason, problem.message)
        state.unprepared = problem
        return state.wait_longer("", problem, error)

    def _note(self, pod: Pod, slot: Slot) -> None:
        """Take over into the record what the newest run of a container tells."""
        state = self._state
        runs = decisions.runs_of(slot.name, self._means.containers(self.uid))
        current = runs[0] if runs else None
        history = state.history(pod, slot.name)
        now, today = self._means.clock.now(), self._means.today()
        noted = decisions.note_seen(current, history, now, today=today)
        if noted.ended_id != history.ended_id and noted.last is not None and current is not None:
            path = termination_file(self._means.folder, self.uid, slot.name, decisions.attempt_of(current))
            text = read_message(
                slot.container, path, current.log_path, noted.last.exit_code, limit=message_limit(pod.spec)
            )
            if text:
                noted = msgspec.structs.replace(noted, last=msgspec.structs.replace(noted.last, message=text))
        if noted != history:
            state.remember(pod, slot.name, noted)
            state.report(pod)

    def _act(self, pod: Pod, plan: Plan, seen: Mapping[str, Seen]) -> list[float]:
        """Begin the steps of the plan; the seconds until waits end."""
        grace = pod.spec.termination_grace_period_seconds
        for slot in plan.stop:
            current = seen[slot.name].current
            if current is not None and not self._busy(slot.name):
                why = f"Stopping container {slot.name}"
                self._begin(pod, slot.name, self._steps.stop(pod, slot, current, why, grace))
        delays = []
        for slot in plan.active:
            name = slot.name
            if self._busy(name):
                if not seen[name].history.started_id:
                    break  # containers are started one after another
                continue
            if (wait := self._state.left_to_wait(name)) > 0:
                delays.append(wait)
                continue
            if (backing_off := self._decide(pod, slot, seen[name])) is not None:
                delays.append(backing_off)
            if name in self._actions and not seen[name].history.started_id:
                break
        return delays

    def _decide(self, pod: Pod, slot: Slot, known: Seen) -> float | None:
        """Begin the next step of one container; the seconds to wait, where there is something to wait for."""
        state, steps = self._state, self._steps
        now = self._means.clock.now()
        wanted = decisions.spec_hash(slot.container, pod.spec)
        current = known.current
        match decisions.decide(current, known.history, wanted, slot.policy, now):
            case decisions.Leave():
                if state.unprepared is None:
                    state.retries.pop(slot.name, None)
                if current is not None and known.running:
                    self._keep_up(pod, slot, known)
            case decisions.WaitUntil(time=time):
                state.retries.pop(slot.name, None)
                state.event_back_off(pod, slot.name, known.history)
                return max(0.05, time - now)
            case decisions.Replace() if current is not None and self._means.confirmed():
                self._begin(pod, slot.name, steps.replace(pod, slot, current))
            case decisions.Start() if current is not None:
                self._begin(pod, slot.name, steps.start(pod, slot, current))
            case decisions.Create(attempt=attempt) if state.unprepared is None:
                runs = decisions.runs_of(slot.name, self._means.containers(self.uid))
                self._begin(pod, slot.name, steps.create(pod, slot, attempt, wanted, runs))
        return None

    def _keep_up(self, pod: Pod, slot: Slot, known: Seen) -> None:
        """What a container that runs may be in need of: its hook, or its end."""
        assert known.current is not None
        lifecycle, current = slot.container.lifecycle, known.current
        if (failed := self._probing.failed(current.id)) is not None:
            why = f"Container {slot.name} failed {failed.kind.lower()} probe, will be restarted"
            own = pod.spec.termination_grace_period_seconds
            grace = own if failed.grace_seconds is None else failed.grace_seconds
            self._begin(pod, slot.name, self._kill(pod, slot, known, why, grace))
        elif (
            lifecycle is not None
            and lifecycle.post_start is not None
            and known.history.hooked_id != current.id
        ):
            self._begin(pod, slot.name, self._steps.post_start(pod, slot, current))

    async def _kill(self, pod: Pod, slot: Slot, known: Seen, why: str, grace: float) -> None:
        assert known.current is not None
        await self._steps.stop(pod, slot, known.current, why, grace)

    def _begin(self, pod: Pod, name: str, step: Coroutine[object, object, object]) -> None:
        """Take a step of one container in a task of its own; this worker looks again when it is done."""

        async def take() -> None:
            try:
                await step
            except EdgeAgentError as error:
                self._state.failed(pod, name, error)

        task = asyncio.get_running_loop().create_task(take(), name=f"pod {self.uid} {name}")
        self._actions[name] = task
        task.add_done_callback(lambda _done: self.wake())

    def _reap(self) -> None:
        """Forget the steps that are done; a bug in one of them is raised."""
        for name, task in list(self._actions.items()):
            if task.done():
                del self._actions[name]
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def _cancel_actions(self, actions: Mapping[str, "asyncio.Task[None]"]) -> None:
        tasks = list(actions.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _settle_actions(self) -> None:
        """Let the steps under way come to their end, and cut off those that may be, now or further on."""
        self._steps.ending = True
        try:
            await self._cancel_actions(
                {name: task for name, task in self._actions.items() if task in self._steps.idle}
            )
            if self._actions:
                await asyncio.wait(self._actions.values())
        finally:
            self._steps.ending = False
        self._reap()

    def _note_admitted(self, pod: Pod) -> None:
        """What taking the pod down will need, as it is really run."""
        spec = pod.spec
        self._state.update(
            pod,
            grace_seconds=spec.termination_grace_period_seconds,
            host_network=spec.host_network,
            spec=spec if needs_spec_to_stop(spec) else None,
            leaving=leaving(self._state.record(pod), spec, self._means.containers(self.uid)),
        )

    async def _finish(self, pod: Pod, places: list[Slot]) -> None:
        """A pod that is over: stop what still runs of it, and give back what it needs no longer."""
        self._probing.close()
        await self._settle_actions()
        await self._ending.stop_all(pod, self._ending.grace_for(pod))
        for slot in places:
            self._note(pod, slot)
        if self._eviction.noted(pod):
            await self._remove_all()
        await self._ending.give_back(self._state.record(pod))

    def _return(self, pod: Pod) -> float | None:
        """Let an evicted pod run anew, if it may; else the seconds until then, as far as they are known."""
        left = self._eviction.seconds_left(pod)
        if left != 0:
            return left
        self._eviction.undo(pod)
        self._stale = True
        self._ending = Ending(self._state, self._steps)
        self.wake()
        return None

    async def _remove_all(self) -> None:
        mine = self._means.containers(self.uid)
        for container in sorted(mine, key=lambda c: c.labels.get(LABEL_CONTAINER) == PAUSE):
            await self._steps.remove(container)

    async def _tear_down(self) -> None:
        """Stop and remove everything of the pod, give back what it had, forget it."""
        self._probing.close()
        await self._settle_actions()
        record = self._means.record(self.uid)
        mine = self._means.containers(self.uid)
        if record is None and mine and (record := record_of(mine[0])) is not None:
            # The store was lost since: the hub must still learn that the pod is gone.
            self._means.keep(record)
        if record is not None and any(c.state == "running" for c in mine):
            about = ObjectReference(kind="Pod", namespace=record.namespace, name=record.name, uid=record.uid)
            self._means.events.record(about, "Normal", "Killing", "Stopping the pod: it was deleted")
        await self._ending.stop_all(self._ending.pod_of(record), record.grace_seconds if record else 30)
        await self._remove_all()
        await self._ending.give_back(record)
        self._means.gone(self.uid)

    async def _collect_ends(self) -> EdgeAgentError | None:
        """Ask for the exit codes of what has ended; the last error where one could not be had."""
        problem = None
        ended = self._means.ended(self.uid)
        for container_id in list(ended):
            known = {container.id: container for container in self._means.containers(self.uid)}
            if container_id in known:
                try:
                    async with self._means.limits.steps:
                        over = await self._means.runtime.wait_container(container_id)
                except EdgeAgentError as error:
                    problem = error
                    continue
                self._means.observed(msgspec.structs.replace(over, labels=known[container_id].labels))
            ended.discard(container_id)
        return problem
