"""A pod's place on the network: the seam between its worker and the plugin that gives it one."""

import logging

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.objects.pod import Pod
from edgeagent.node.pods.ending import sandbox_of
from edgeagent.node.pods.podstate import PodState

log = logging.getLogger(__name__)


def lacks_network(state: PodState, pod: Pod) -> bool:
    """Whether the pod is to have a network of its own, and has none yet."""
    return not pod.spec.host_network and state.attachment is None


async def attach(state: PodState, pod: Pod) -> None:
    """Give a pod that does not use the host's network one of its own; PermanentError where nobody can."""
    if not lacks_network(state, pod):
        return
    if state.means.network is None:
        raise PermanentError(
            "no network plugin is loaded, so spec.hostNetwork must be true", reason="NetworkUnavailable"
        )
    state.attachment = await state.means.network.attach(sandbox_of(state.record(pod)))


async def recall(state: PodState, pod: Pod) -> None:
    """For a pod that is refused as it is desired now: what was admitted of it before the agent started.

    It gets its network back too, so that its containers can be run again.
    """
    if state.pod is None:
        state.pod = state.means.admissions.before(pod)
    before = state.pod
    refused_by_admission = state.means.admissions.known(pod) is None
    if before is None or not refused_by_admission or state.record(before).phase:
        return
    try:
        await attach(state, before)
    except EdgeAgentError as error:
        log.warning(
            "pod %s/%s goes on as it was, but has no network: %s",
            pod.metadata.namespace, pod.metadata.name, error,
        )  # fmt: skip
