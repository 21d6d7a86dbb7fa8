"""The level ``restricted``: what is known to harden a pod must be asked for.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from collections.abc import Callable, Mapping

import msgspec

from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.security import PodSecurityContext
from edgeagent.api.objects.volume import Volume
from edgeagent_security.podsecurity import baseline
from edgeagent_security.podsecurity.finding import (
    Finding,
    containers,
    in_user_namespace,
    joined,
    named,
    on_windows,
    plural,
    setters,
)

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""The kinds of volumes that are allowed."""


def allow_privilege_escalation(pod: Pod) -> Finding | None:
    """Nothing in a container may gain more than its process began with."""
    if on_windows(pod):
        return None
    found = [place for place in containers(pod) if place.security.allow_privilege_escalation is not False]
    if not found:
        return None
    names = named([place.container.name for place in found])
    return Finding(
        "allowPrivilegeEscalation != false",
        f"{names} must set securityContext.allowPrivilegeEscalation=false",
        tuple(f"{place.path}.securityContext.allowPrivilegeEscalation" for place in found),
    )


def capabilities(pod: Pod) -> Finding | None:
    """All capabilities are dropped; ``NET_BIND_SERVICE`` may be added."""
    if on_windows(pod):
        return None
    keeping, adding = list[str](), list[str]()
    added, fields = set[str](), list[str]()
    for place in containers(pod):
        own = place.security.capabilities
        if own is None or "ALL" not in own.drop:
            keeping.append(place.container.name)
            fields.append(f"{place.path}.securityContext.capabilities.drop")
        bad = [name for name in own.add if name != "NET_BIND_SERVICE"] if own is not None else []
        if bad:
            added.update(bad)
            adding.append(place.container.name)
            fields.append(f"{place.path}.securityContext.capabilities.add")
    details = []
    if keeping:
        details.append(f'{named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        which = joined(sorted(added))
        details.append(f"{named(adding)} must not include {which} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(details), tuple(fields)) if details else None


def volume_types(pod: Pod) -> Finding | None:
    """Only volumes that hold nothing of the node's own, and name no server of somebody else's."""
    names, kinds, fields = list[str](), set[str](), list[str]()
    for index, volume in enumerate(pod.spec.volumes):
        set_ = _kinds(volume)
        if VOLUMES.isdisjoint(set_):
            kind = set_[0] if set_ else "unknown"
            names.append(volume.name)
            kinds.add(kind)
            fields.append(f"spec.volumes[{index}].{kind}" if set_ else f"spec.volumes[{index}]")
    if not names:
        return None
    what = plural("restricted volume type", "restricted volume types", len(kinds))
    use = plural("uses", "use", len(names))
    detail = f"{plural('volume', 'volumes', len(names))} {joined(names)} {use} {what} {joined(sorted(kinds))}"
    return Finding("restricted volume types", detail, tuple(fields))


def _kinds(volume: Volume) -> list[str]:
    return [
        field.encode_name
        for field in msgspec.structs.fields(volume)
        if field.name != "name" and getattr(volume, field.name) is not None
    ]


def run_as_non_root(pod: Pod) -> Finding | None:
    """The pod, or each of its containers, says that it does not run as root."""
    if in_user_namespace(pod):
        return None
    shared = pod.spec.security_context or PodSecurityContext()
    field = "securityContext.runAsNonRoot"
    bad = [place for place in containers(pod) if place.security.run_as_non_root is False]
    pod_sets = shared.run_as_non_root is False
    if pod_sets or bad:
        who = setters(pod_sets, [place.container.name for place in bad])
        fields = [*([f"spec.{field}"] if pod_sets else []), *(f"{place.path}.{field}" for place in bad)]
        return Finding("runAsNonRoot != true", f"{who} must not set {field}=false", tuple(fields))
    silent = [place for place in containers(pod) if place.security.run_as_non_root is None]
    if shared.run_as_non_root or not silent:
        return None
    names = named([place.container.name for place in silent])
    fields = [f"{place.path}.{field}" for place in silent]
    return Finding("runAsNonRoot != true", f"pod or {names} must set {field}=true", tuple(fields))


def run_as_user(pod: Pod) -> Finding | None:
    """Nobody asks to be root."""
    if in_user_namespace(pod):
        return None
    shared = pod.spec.security_context or PodSecurityContext()
    pod_sets = shared.run_as_user == 0
    bad = [place for place in containers(pod) if place.security.run_as_user == 0]
    if not pod_sets and not bad:
        return None
    who = setters(pod_sets, [place.container.name for place in bad])
    fields = [*(["spec"] if pod_sets else []), *(place.path for place in bad)]
    return Finding(
        "runAsUser=0",
        f"{who} must not set runAsUser=0",
        tuple(f"{path}.securityContext.runAsUser" for path in fields),
    )


def seccomp_profile(pod: Pod) -> Finding | None:
    """A seccomp profile is set: the runtime's or a file of the node's."""
    if on_windows(pod):
        return None
    if (worse := baseline.seccomp_profile(pod)) is not None:
        return worse
    shared = pod.spec.security_context or PodSecurityContext()
    silent = [place for place in containers(pod) if place.security.seccomp_profile is None]
    if shared.seccomp_profile is not None or not silent:
        return None
    field = "securityContext.seccompProfile.type"
    names = named([place.container.name for place in silent])
    detail = f'pod or {names} must set {field} to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", detail, tuple(f"{place.path}.{field}" for place in silent))


RESTRICTED: Mapping[str, Callable[[Pod], Finding | None]] = {
    "allowPrivilegeEscalation": allow_privilege_escalation,
    "capabilities_restricted": capabilities,
    "procMount_restricted": baseline.masked_proc,
    "restrictedVolumes": volume_types,
    "runAsNonRoot": run_as_non_root,
    "runAsUser": run_as_user,
    "seccompProfile_restricted": seccomp_profile,
}
"""The controls of the level beyond those of ``baseline``, in Kubernetes' order."""
OVERRIDDEN = frozenset({"capabilities_baseline", "hostPathVolumes", "procMount", "seccompProfile_baseline"})
"""Those of ``baseline`` that have a stricter one here, which is asked in their place."""
