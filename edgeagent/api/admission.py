"""Admission: what a policy plugin is asked before a pod is run, on the node itself, and what it answers."""

from typing import Protocol

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.pod import Pod


class AdmissionRequest(KubernetesStruct, frozen=True):
    """What is known of a pod beside the pod.

    ``namespace_labels`` are those of its Namespace as the node knows it, none where it knows of none.
    ``static``: the pod comes from the node's own folder, where whoever owns the machine has put it.
    """

    namespace_labels: dict[str, str] = {}
    static: bool = False


class Violation(KubernetesStruct, frozen=True):
    """One rule that a pod breaks: ``field`` names the place, ``message`` the rule and what to change.

    Where a rule is about several places, ``field`` has them all, with commas between.
    """

    field: str
    message: str


class AdmissionWarning(KubernetesStruct, frozen=True):
    """What is wrong with a pod that may run all the same: the ``reason`` and ``message`` of its event."""

    reason: str
    message: str


class Review(KubernetesStruct, frozen=True):
    """A verdict. No ``violations``: the pod may run.

    ``warnings`` become events, ``audit`` lines of the log, once for each time that a pod is admitted.
    """

    violations: list[Violation] = []
    warnings: list[AdmissionWarning] = []
    audit: list[str] = []


class Admission(Protocol):
    """Changes and judges pods that are new, and those whose spec has changed.

    ``mutate`` of all plugins runs first, then ``review`` on what came of it. What was admitted stays admitted
    for as long as its spec is the same, whatever becomes of the plugin, its settings or the namespace.
    """

    def mutate(self, pod: Pod, request: AdmissionRequest) -> Pod:
        """The pod as it should run; return it unchanged where there is nothing to add.

        Only the spec counts: metadata and status stay as they are.
        """

    def review(self, pod: Pod, request: AdmissionRequest) -> Review:
        """What forbids the pod to run, and what is to be said of it."""
