"""Probes, and what lifecycle hooks do: asking a container how it is, and telling what that means.

``actions.perform`` takes one action; ``container.ContainerProbes`` takes a container's probes on their
schedule. HTTP, TCP and gRPC are spoken on the event loop: no thread and no process for a probe. May not
know pods' workers, events and status.

https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from edgeagent.node.pods.probes.actions import perform
from edgeagent.node.pods.probes.container import ContainerProbes, ProbeFailure
from edgeagent.node.pods.probes.target import Outcome, ProbeTarget

__all__ = ["ContainerProbes", "Outcome", "ProbeFailure", "ProbeTarget", "perform"]
