"""Whether pods may run: the admission plugins are asked once for each spec, and what they said is kept.

No setting, label or broken plugin takes back what was admitted: a pod stays admitted for as long as its uid
and its spec are the same, over restarts of the agent and of the machine. A pod that is new, or whose spec has
changed, waits for a plugin that does not answer, and what runs of it goes on as it was admitted before.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from edgeagent.api.admission import AdmissionRequest, Review
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.api.objects.pod import Pod, PodSpec
from edgeagent.api.objects.policy import Namespace
from edgeagent.api.runtime import LABEL_SPEC_HASH, ContainerRecord
from edgeagent.node.events import EventRecorder
from edgeagent.node.plugins.facades import AdmissionFacade
from edgeagent.node.pods.containers import runs_of, spec_hash
from edgeagent.node.pods.plan import slots
from edgeagent.node.pods.security import pod_sysctls
from edgeagent.node.pods.wanted import WantedObjects
from edgeagent.node.store.admitted import Admitted, AdmittedPods
from edgeagent.wire.canonical import canonical_json, digest

log = logging.getLogger(__name__)

T = TypeVar("T")

REFUSED = "AdmissionRefused"
UNAVAILABLE = "AdmissionUnavailable"
ASKED_AT_ONCE = 16
"""How many pods may be judged at once; the others wait, so that no lane is flooded."""


class Admissions:
    """Judges the pods of a node. ``containers``: what the runtime holds of a pod, by uid."""

    def __init__(
        self,
        plugins: Sequence[AdmissionFacade],
        *,
        wanted: WantedObjects,
        kept: AdmittedPods,
        events: EventRecorder,
        containers: Callable[[str], list[ContainerRecord]],
        unsafe_sysctls: Sequence[str],
    ) -> None:
        self._plugins = plugins
        self._wanted = wanted
        self._kept = kept
        self._events = events
        self._containers = containers
        self._unsafe_sysctls = unsafe_sysctls
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._last: dict[str, tuple[Pod, Pod]] = {}
        """By uid: a pod as it is desired, and as it was admitted."""

    def known(self, pod: Pod) -> Pod | None:
        """The pod as it was admitted, if it was, just as it is desired now."""
        uid = pod.metadata.uid
        last = self._last.get(uid)
        if last is not None and last[0] is pod:
            return last[1]
        kept = self._kept.get(uid)
        if kept is None or kept.wanted != _digest(pod.spec):
            return None
        admitted = msgspec.structs.replace(pod, spec=kept.spec)
        self._last[uid] = (pod, admitted)
        return admitted

    def before(self, pod: Pod) -> Pod | None:
        """The pod with the spec that was admitted last, whatever is desired now."""
        kept = self._kept.get(pod.metadata.uid)
        return msgspec.structs.replace(pod, spec=kept.spec) if kept is not None else None

    def forget(self, uid: str) -> None:
        """Nothing of the pod is left on the node."""
        self._last.pop(uid, None)
        self._kept.remove(uid)

    async def admit(self, pod: Pod) -> Pod:
        """The pod as the node and its admission plugins let it run.

        PermanentError names rules and fields; TemporaryError (reason ``AdmissionUnavailable``) says which
        plugin does not answer.
        """
        known = self.known(pod)
        if known is None and self._ran(pod, pod.spec):
            known = self._keep(pod, pod.spec)
        if known is not None:
            return known
        async with self._asking:
            return await self._ask(pod)

    async def _ask(self, pod: Pod) -> Pod:
        request = self._request(pod) if self._plugins else AdmissionRequest()
        changed = pod
        for plugin in self._plugins:
            mutated = await _answer(plugin, plugin.mutate(changed, request))
            changed = msgspec.structs.replace(pod, spec=mutated.spec)
        if self._ran(pod, changed.spec):
            return self._keep(pod, changed.spec)
        reviews = [await _answer(plugin, plugin.review(changed, request)) for plugin in self._plugins]
        violations = [violation for review in reviews for violation in review.violations]
        if violations:
            text = "; ".join(f"{violation.field}: {violation.message}" for violation in violations)
            raise PermanentError(text, reason=REFUSED)
        pod_sysctls(changed, allowed_unsafe=self._unsafe_sysctls)
        self._tell(pod, reviews)
        return self._keep(pod, changed.spec)

    def _request(self, pod: Pod) -> AdmissionRequest:
        static = self._wanted.is_static(pod.metadata.uid)
        found = self._wanted.find("Namespace", "", pod.metadata.namespace, static=static)
        labels = found.metadata.labels if isinstance(found, Namespace) else {}
        return AdmissionRequest(namespace_labels=labels, static=static)

    def _tell(self, pod: Pod, reviews: Sequence[Review]) -> None:
        meta = pod.metadata
        about = ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid)
        for review in reviews:
            for warning in review.warnings:
                self._events.record(about, "Warning", warning.reason, warning.message)
            for line in review.audit:
                log.info("audit: %s", line)

    def _keep(self, pod: Pod, spec: PodSpec) -> Pod:
        admitted = msgspec.structs.replace(pod, spec=spec)
        self._last[pod.metadata.uid] = (pod, admitted)
        self._kept.put(pod.metadata.uid, Admitted(wanted=_digest(pod.spec), spec=spec))
        return admitted

    def _ran(self, pod: Pod, spec: PodSpec) -> bool:
        """Whether all containers that ``spec`` has were made by it already, though nothing is known of that.

        The store was lost since, or an edgeagent ran them that kept no word of what it admitted.
        """
        uid = pod.metadata.uid
        if self._kept.get(uid) is not None:
            return False
        there = self._containers(uid)
        for slot in slots(spec):
            runs = runs_of(slot.name, there)
            if not runs or runs[0].labels.get(LABEL_SPEC_HASH) != spec_hash(slot.container, spec):
                return False
        return True


async def _answer(plugin: AdmissionFacade, asked: Awaitable[T]) -> T:
    try:
        return await asked
    except TemporaryError as error:
        raise TemporaryError(
            f"pods wait for admission plugin {plugin.plugin}: {error}", delay=error.delay, reason=UNAVAILABLE
        ) from error


def _digest(spec: PodSpec) -> str:
    return digest(canonical_json(spec))
