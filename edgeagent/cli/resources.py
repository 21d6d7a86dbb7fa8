"""The kinds of objects as a command line names them. May not import what they are made of."""

from dataclasses import dataclass

from edgeagent.api.errors import EdgeAgentError


class UnknownKindError(EdgeAgentError):
    """The word names no kind of object."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as a command line names it: ``kind`` (Pod), ``plural``, ``short`` names."""

    kind: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True

    @property
    def singular(self) -> str:
        """``pod``, as in ``pod/hello``."""
        return self.kind.lower()


RESOURCES = (
    Resource("Pod", "pods", ("po",)),
    Resource("ConfigMap", "configmaps", ("cm",)),
    Resource("Secret", "secrets"),
    Resource("Node", "nodes", ("no",), namespaced=False),
    Resource("Event", "events", ("ev",)),
    Resource("Service", "services", ("svc",)),
    Resource("EndpointSlice", "endpointslices"),
    Resource("NetworkPolicy", "networkpolicies", ("netpol",)),
    Resource("Namespace", "namespaces", ("ns",), namespaced=False),
    Resource("HostFirewall", "hostfirewalls", ("hfw",), namespaced=False),
    Resource("NodeNetwork", "nodenetworks", namespaced=False),
    Resource("RoleBinding", "rolebindings"),
    Resource("ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    Resource("ClusterTrust", "clustertrusts", namespaced=False),
)
"""The kinds that can be asked for."""


def find_resource(word: str) -> Resource:
    """The resource that ``word`` (``po``, ``pod``, ``Pods``, …) names; raises UnknownKindError."""
    for resource in RESOURCES:
        if word.lower() in (resource.singular, resource.plural, *resource.short):
            return resource
    raise UnknownKindError(
        f"the server doesn't have a resource type {word!r}, only {', '.join(r.plural for r in RESOURCES)}"
    )
