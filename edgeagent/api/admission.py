"""Admission: what a policy plugin answers with. Asked before a pod is run, on the node itself."""

from typing import Protocol

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.pod import Pod


class Violation(KubernetesStruct, frozen=True):
    """One rule that a pod breaks: ``field`` names the place, ``message`` the rule and what to change."""

    field: str
    message: str


class Admission(Protocol):
    """Changes and judges pods. ``mutate`` runs first; both are asked again when the pod changes."""

    def mutate(self, pod: Pod) -> Pod:
        """The pod as it should run; return it unchanged where there is nothing to add."""

    def review(self, pod: Pod) -> list[Violation]:
        """What forbids the pod to run; empty to admit it."""
