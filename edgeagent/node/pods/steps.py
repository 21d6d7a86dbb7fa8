"""The steps of one container: made, started, hooked, stopped, removed. Each can be taken again."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace as changed

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.objects.pod import Pod
from edgeagent.api.runtime import LABEL_PAUSE, LABEL_SPEC_HASH, ContainerRecord, ExecResult, Image, Mount
from edgeagent.node.patience import within
from edgeagent.node.pods import containers as decisions
from edgeagent.node.pods.config import Surroundings, container_config, pause_config
from edgeagent.node.pods.environment import resolve_environment
from edgeagent.node.pods.hooks import Hooks
from edgeagent.node.pods.images import pull, pull_credentials, pull_policy, require_present
from edgeagent.node.pods.plan import Slot
from edgeagent.node.pods.podstate import PAUSE, PodState
from edgeagent.node.pods.probes import ProbeTarget
from edgeagent.node.pods.sandbox import container_mounts
from edgeagent.node.pods.security import container_security, needs_image
from edgeagent.node.pods.termination import prepare_message, remove_messages, termination_mount
from edgeagent.node.store.pods import ContainerHistory

LEAST_GRACE_SECONDS = 2
"""What a container is left with to end in, where its preStop hook took all of the grace period."""


class Steps:
    """The steps for the containers of one pod. ``idle``: the tasks that may be cut off now.

    While ``ending``, no step begins to pull, to start or to run a postStart hook: it is cancelled there.
    """

    def __init__(self, state: PodState) -> None:
        self._state = state
        self._means = state.means
        self._hooks = Hooks(state.means.clock, state.means.limits)
        self.idle: set[asyncio.Task[object]] = set()
        self.ending = False

    def _cut_off_if_ending(self) -> None:
        if self.ending:
            raise asyncio.CancelledError

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """What is under way changes nothing on the node that would be missed if it is not waited for."""
        self._cut_off_if_ending()
        task = asyncio.current_task()
        assert task is not None
        self.idle.add(task)
        try:
            yield
        finally:
            self.idle.discard(task)

    async def create(
        self, pod: Pod, slot: Slot, attempt: int, wanted: str, runs: Sequence[ContainerRecord]
    ) -> None:
        """Make run number ``attempt`` and start it."""
        state, name = self._state, slot.name
        is_changed = bool(runs) and runs[0].labels.get(LABEL_SPEC_HASH) != wanted
        lookup = self._means.lookup(pod)
        async with self._means.limits.asks:
            environment = await resolve_environment(slot.container, state.facts(pod), lookup)
        policy = pull_policy(slot.container)
        if policy == "Always" and state.history(pod, name).pulled_hash != wanted:
            await self._pull(pod, slot)
        elif policy == "Never":
            await require_present(self._means.runtime, slot.container)
        image = await self._image(pod, slot)
        around = changed(
            self._surroundings(pod),
            environment=environment,
            security=container_security(pod, slot.container, image, self._means.node.profiles),
            mounts=await self._mounts(pod, slot, attempt, environment),
        )
        config = container_config(pod, slot.container, around, attempt=attempt, wanted=wanted)
        try:
            async with self._means.limits.steps:
                made = await self._means.runtime.create_container(config)
        except PermanentError as error:
            if error.reason != "ImageNotPresent" or policy == "Never":
                raise
            await self._pull(pod, slot)
            async with self._means.limits.steps:
                made = await self._means.runtime.create_container(config)
        self._means.observed(made)
        state.event(pod, "Normal", "Created", f"Created container {name}", name)
        history = state.history(pod, name)
        crashes = 0 if is_changed else history.crashes
        state.remember(
            pod,
            name,
            msgspec.structs.replace(
                history, restart_count=attempt, pulled_hash=wanted, crashes=crashes, again=False
            ),
        )
        await self.start(pod, slot, made)
        # The run before this one stays for `logs --previous`; what is older goes.
        with contextlib.suppress(EdgeAgentError):  # remove_strays comes back to it
            for old in runs[1:]:
                await self.remove(old)
        remove_messages(self._means.folder, state.uid, name, keep=attempt)

    def _surroundings(self, pod: Pod) -> Surroundings:
        state = self._state
        if state.sandbox is None:
            raise PermanentError("the pod was not prepared", reason="CreateContainerError")
        return Surroundings(
            sandbox=state.sandbox,
            attachment=state.attachment,
            pause=state.pause.id if state.pause is not None else "",
            static=self._means.static(state.uid),
            pids_limit=self._means.node.pids_limit,
            memory=self._means.node.memory,
            unsafe_sysctls=self._means.node.unsafe_sysctls,
        )

    async def _mounts(self, pod: Pod, slot: Slot, attempt: int, environment: dict[str, str]) -> list[Mount]:
        state, container = self._state, slot.container
        assert state.sandbox is not None
        mounts = await self._means.volumes.mounts(pod, container, environment)
        message = prepare_message(self._means.folder, state.uid, slot.name, attempt)
        return [*container_mounts(state.sandbox, container), *mounts, termination_mount(container, message)]

    async def _image(self, pod: Pod, slot: Slot) -> Image | None:
        """The image, where the security context has to know its user."""
        if not needs_image(pod, slot.container):
            return None
        found = await self._means.runtime.find_image(slot.container.image)
        if found is None:
            await self._pull(pod, slot)
            found = await self._means.runtime.find_image(slot.container.image)
        return found

    async def _pull(self, pod: Pod, slot: Slot) -> None:
        state, container = self._state, slot.container
        state.event(pod, "Normal", "Pulling", f"Pulling image {container.image}", container.name)
        state.report(pod)  # it may take hours
        credentials, missing = await pull_credentials(pod, container.image, self._means.lookup(pod))
        for warning in missing:
            state.event(pod, "Warning", "FailedToRetrieveImagePullSecret", warning)
        with self._interruptible():
            async with self._means.limits.pulls:
                await pull(self._means.runtime, container, credentials)
        state.event(pod, "Normal", "Pulled", f"Pulled image {container.image}", container.name)

    async def start(self, pod: Pod, slot: Slot, current: ContainerRecord) -> None:
        """Start a run that was made, and run its postStart hook."""
        self._cut_off_if_ending()
        state, name = self._state, slot.name
        try:
            async with self._means.limits.steps:
                started = await self._means.runtime.start_container(current.id)
        except PermanentError as error:
            history = decisions.note_start_error(
                current,
                str(error),
                state.history(pod, name),
                self._means.clock.now(),
                today=self._means.today(),
            )
            state.retries.pop(name, None)
            state.remember(pod, name, history)
            state.event(pod, "Warning", "Failed", f"Error: {error}", name)
            return
        state.retries.pop(name, None)
        history = msgspec.structs.replace(
            state.history(pod, name), started_id=started.id, started_at=self._means.clock.now()
        )
        state.fresh.add(started.id)
        state.remember(pod, name, history)
        self._means.observed(started)
        self._means.started()
        state.report(pod)
        state.event(pod, "Normal", "Started", f"Started container {name}", name)
        await self.post_start(pod, slot, started)

    async def post_start(self, pod: Pod, slot: Slot, current: ContainerRecord) -> None:
        """Run the postStart hook of a running container, if any; where it fails, stop the container."""
        state, lifecycle = self._state, slot.container.lifecycle
        if lifecycle is None or lifecycle.post_start is None:
            return
        with self._interruptible():
            problem = await self._hooks.post_start(lifecycle.post_start, self.target(pod, slot, current))
        if problem is None:
            history = msgspec.structs.replace(state.history(pod, slot.name), hooked_id=current.id)
            state.remember(pod, slot.name, history)
            return
        state.event(pod, "Warning", "FailedPostStartHook", f"PostStartHook failed: {problem}", slot.name)
        await self.stop(pod, slot, current, "FailedPostStartHook", pod.spec.termination_grace_period_seconds)

    def target(self, pod: Pod, slot: Slot, current: ContainerRecord) -> ProbeTarget:
        """Where the probes and hooks of a run find it."""

        async def execute(command: list[str], seconds: float) -> ExecResult:
            return await self._means.runtime.exec_container(current.id, command, seconds)

        ips = self._state.ips(pod)
        return ProbeTarget(container=slot.container, host=ips[0] if ips else "", exec=execute)

    async def replace(self, pod: Pod, slot: Slot, current: ContainerRecord) -> None:
        """Stop a run whose spec has changed; what follows makes the next."""
        state = self._state
        message = f"Container {slot.name} definition changed, will be restarted"
        if current.state == "created":  # it never ran: nothing has ended
            state.event(pod, "Normal", "Killing", message, slot.name)
            await self.remove(current)
            return
        ended = await self.stop(pod, slot, current, message, pod.spec.termination_grace_period_seconds)
        noted = decisions.note_stopped(ended, state.history(pod, slot.name), today=self._means.today())
        state.remember(pod, slot.name, noted)

    async def stop(
        self, pod: Pod | None, slot: Slot | None, current: ContainerRecord, why: str, grace: float
    ) -> ContainerRecord:
        """Run the preStop hook, then stop the container; both within ``grace`` seconds.

        Where other hooks must end first, that is waited for before, for at most ``grace`` seconds.
        """
        state = self._state
        name = slot.name if slot is not None else ""
        if why and pod is not None:
            state.event(pod, "Normal", "Killing", why, name)
        lifecycle = slot.container.lifecycle if slot is not None else None
        if pod and slot and lifecycle is not None and lifecycle.pre_stop is not None and grace > 0:
            ran = await self._hooks.pre_stop(lifecycle.pre_stop, self.target(pod, slot, current), grace)
            if ran.problem is not None:
                state.event(pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {ran.problem}", name)
            grace = max(LEAST_GRACE_SECONDS, grace - ran.seconds)
        ended = msgspec.structs.replace(await self._end(current, grace), labels=current.labels)
        self._means.observed(ended)
        return ended

    async def _end(self, current: ContainerRecord, grace: float) -> ContainerRecord:
        """Ask a run to end, and kill it after ``grace`` seconds. The runtime is not occupied meanwhile."""
        runtime, limits = self._means.runtime, self._means.limits
        if grace > LEAST_GRACE_SECONDS:
            deadline = self._means.clock.monotonic() + grace
            async with limits.steps:
                asked = await runtime.signal_container(current.id)
            if asked.state != "running":
                return asked
            with self._interruptible():
                left = deadline - self._means.clock.monotonic()
                exit_of = self._means.exit_of(self._state.uid, current.id)
                in_time = await within(self._means.clock, left, exit_of)
            if in_time:
                async with limits.steps:
                    return await runtime.wait_container(current.id)
            grace = 0
        async with limits.stops:
            return await runtime.stop_container(current.id, round(grace))

    async def remove(self, container: ContainerRecord) -> None:
        """Remove a container, by force if it runs."""
        async with self._means.limits.steps:
            await self._means.runtime.remove_container(container.id)
        self._means.vanished(container)

    async def ensure_pause(self, pod: Pod) -> None:
        """See to it that the container that holds the process namespace runs, where the pod wants one."""
        state = self._state
        state.pause = None
        wants = state.sandbox is not None and state.sandbox.needs_pause
        runs = decisions.runs_of(PAUSE, self._means.containers(state.uid))
        newest = runs[0] if runs else None
        usable = wants and newest is not None and not decisions.has_ended(newest, ContainerHistory())
        await self._drop_pauses(runs[1:] if usable else runs)
        if wants:
            state.pause = await self._run_pause(pod, newest, usable=usable)

    async def _run_pause(self, pod: Pod, newest: ContainerRecord | None, *, usable: bool) -> ContainerRecord:
        """The pause container that runs: the newest one if it can be used, else another."""
        if newest is not None and newest.state == "running":
            return newest
        if newest is None or not usable:
            attempt = decisions.attempt_of(newest) + 1 if newest is not None else 0
            config = pause_config(pod, PAUSE, self._surroundings(pod), attempt=attempt)
            async with self._means.limits.steps:
                newest = await self._means.runtime.create_container(config)
            self._means.observed(newest)
        try:
            async with self._means.limits.steps:
                started = await self._means.runtime.start_container(newest.id)
        except EdgeAgentError:
            await self._drop_pauses([newest])  # what it was made with may be what keeps it from starting
            raise
        self._means.observed(started)
        return started

    async def _drop_pauses(self, runs: Sequence[ContainerRecord]) -> None:
        """Remove pause containers that are needed no longer.

        A runtime removes none before those that have joined it are removed, even if they have ended: until
        then it is stopped. What fails holds nothing back, and is tried again at the next look.
        """
        for run in runs:
            containers = self._means.containers(self._state.uid)
            members = [c for c in containers if c.labels.get(LABEL_PAUSE) == run.id]
            try:
                if not members:
                    await self.remove(run)
                elif run.state == "running" and not any(c.state == "running" for c in members):
                    await self.stop(None, None, run, "", 0)
            except EdgeAgentError as error:
                self._means.trouble(error)
