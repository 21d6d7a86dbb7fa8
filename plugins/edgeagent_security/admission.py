"""The judge of pods: the level of their namespace, and where their images come from."""

import msgspec

from edgeagent.api.admission import AdmissionRequest, AdmissionWarning, Review, Violation
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.security import PodSecurityContext, SeccompProfile, SecurityContext
from edgeagent_security.config import SecurityConfig
from edgeagent_security.imagepolicy import image_violations
from edgeagent_security.podsecurity.finding import Finding
from edgeagent_security.podsecurity.level import Level
from edgeagent_security.podsecurity.levels import Policy, findings, policy_of

RUNTIME_DEFAULT = SeccompProfile(type="RuntimeDefault")
WARNING = "PodSecurityWarning"
MAX_FIELDS = 16
"""How many places a violation names one by one."""


class PodSecurity:
    """Implements ``edgeagent.api.admission.Admission``; keeps nothing between two calls."""

    def __init__(self, config: SecurityConfig) -> None:
        self._config = config

    def mutate(self, pod: Pod, request: AdmissionRequest) -> Pod:
        """Give the seccomp profile ``RuntimeDefault`` to every container that says nothing of one."""
        shared = pod.spec.security_context or PodSecurityContext()
        if self._is_exempt(request) or shared.seccomp_profile is not None:
            return pod
        spec = msgspec.structs.replace(
            pod.spec,
            containers=[_with_profile(one) for one in pod.spec.containers],
            init_containers=[_with_profile(one) for one in pod.spec.init_containers],
        )
        return msgspec.structs.replace(pod, spec=spec)

    def review(self, pod: Pod, request: AdmissionRequest) -> Review:
        """What the pod breaks; words and order are those of Kubernetes."""
        if self._is_exempt(request):
            return Review()
        images = image_violations(pod, self._config.images)
        if pod.metadata.namespace in self._config.exempt_namespaces:
            return Review(violations=images)
        policy = policy_of(request.namespace_labels, self._config.default_level)
        violations = _violations(pod, policy)
        about = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
        return Review(
            violations=violations + images,
            warnings=_warnings(pod, policy),
            audit=[f"{about} {text}" for text in _would_violate(pod, policy.audit)],
        )

    def _is_exempt(self, request: AdmissionRequest) -> bool:
        return request.static and self._config.static_pods == "exempt"


def _with_profile(container: Container) -> Container:
    own = container.security_context or SecurityContext()
    if own.seccomp_profile is not None or own.privileged:
        return container
    return msgspec.structs.replace(
        container, security_context=msgspec.structs.replace(own, seccomp_profile=RUNTIME_DEFAULT)
    )


def _violations(pod: Pod, policy: Policy) -> list[Violation]:
    hint = "".join(f"; {problem}" for problem in policy.problems)
    return [
        Violation(
            field=_places(found), message=f'violates PodSecurity "{policy.enforce}:latest": {found}{hint}'
        )
        for found in findings(policy.enforce, pod)
    ]


def _places(found: Finding) -> str:
    more = len(found.fields) - MAX_FIELDS
    return ", ".join(found.fields[:MAX_FIELDS]) + (f" and {more} more" if more > 0 else "")


def _warnings(pod: Pod, policy: Policy) -> list[AdmissionWarning]:
    texts = [*_would_violate(pod, policy.warn), *policy.problems]
    return [AdmissionWarning(reason=WARNING, message=text) for text in texts]


def _would_violate(pod: Pod, level: Level) -> list[str]:
    found = findings(level, pod)
    return [f'would violate PodSecurity "{level}:latest": {", ".join(map(str, found))}'] if found else []
