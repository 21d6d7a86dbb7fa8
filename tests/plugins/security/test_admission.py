"""The judge: levels by labels, defaults and exemptions, warnings, and the default seccomp profile."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.api.admission import AdmissionRequest, Review
from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.pod import Pod
from edgeagent_security.admission import MAX_FIELDS, PodSecurity
from edgeagent_security.config import SecurityConfig
from edgeagent_security.podsecurity.levels import policy_of
from tests.plugins.security.pods import own, pod, restricted

PREFIX = "pod-security.kubernetes.io/"


def labels(**modes: str) -> dict[str, str]:
    """Labels of a namespace: ``enforce_version`` for the one with ``-version``."""
    return {f"{PREFIX}{name.replace('_', '-')}": value for name, value in modes.items()}


def judge(**settings: Any) -> PodSecurity:
    """A judge with these settings."""
    return PodSecurity(convert(settings, SecurityConfig))


def review(
    made: Pod, *, static: bool = False, settings: dict[str, Any] | None = None, **modes: str
) -> Review:
    """A verdict, in a namespace with these labels."""
    request = AdmissionRequest(namespace_labels=labels(**modes), static=static)
    return judge(**(settings or {})).review(made, request)


def test_a_violation_has_the_words_of_kubernetes_and_the_field() -> None:
    [first, second] = review(pod(own(privileged=True), hostNetwork=True, hostPID=True)).violations
    assert (first.field, first.message) == (
        "spec.hostNetwork, spec.hostPID",
        'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true, hostPID=true)',
    )
    assert (second.field, second.message) == (
        "spec.containers[0].securityContext.privileged",
        'violates PodSecurity "baseline:latest": privileged (container "a" must not set'
        " securityContext.privileged=true)",
    )


def test_the_places_of_a_violation_are_bounded() -> None:
    many = [{"name": f"v{number}", "hostPath": {"path": "/"}} for number in range(MAX_FIELDS + 3)]
    [found] = review(pod(volumes=many)).violations
    assert found.field.endswith(f"spec.volumes[{MAX_FIELDS - 1}].hostPath and 3 more")


@pytest.mark.parametrize(
    ("made", "settings", "modes", "refused"),
    [
        (pod(hostNetwork=True), {}, {}, True),
        (pod(hostNetwork=True), {}, {"enforce": "privileged"}, False),
        (pod(hostNetwork=True), {"default_level": "privileged"}, {}, False),
        (pod(hostNetwork=True), {"default_level": "privileged"}, {"enforce": "baseline"}, True),
        (pod(hostNetwork=True), {"exempt_namespaces": ["shop"]}, {"enforce": "restricted"}, False),
        (pod(hostNetwork=True), {"exempt_namespaces": ["other"]}, {}, True),
        (pod(), {}, {}, False),
        (pod(), {}, {"enforce": "restricted"}, True),
        (pod(), {"default_level": "restricted"}, {}, True),
        (restricted(), {"default_level": "restricted"}, {}, False),
        (pod(), {}, {"enforce": "baseline", "enforce_version": "v1.20"}, False),
    ],
)
def test_the_level_that_is_enforced(
    made: Pod, settings: dict[str, Any], modes: dict[str, str], refused: bool
) -> None:
    request = AdmissionRequest(namespace_labels=labels(**modes))
    assert bool(judge(**settings).review(made, request).violations) is refused


def test_a_version_changes_nothing() -> None:
    """Rules that came with 1.34 hold for a namespace that asks for those of 1.0, too."""
    made = pod({"livenessProbe": {"httpGet": {"port": 1, "host": "h"}}})
    [found] = review(made, enforce="baseline", enforce_version="v1.0").violations
    assert 'violates PodSecurity "baseline:latest": probe or lifecycle host' in found.message


def test_a_level_that_is_none_is_taken_for_restricted_and_says_so() -> None:
    found = review(pod(), enforce="baselin").violations
    assert {one.message.partition(": ")[0] for one in found} == {'violates PodSecurity "restricted:latest"'}
    hint = f"label {PREFIX}enforce: 'baselin' must be one of privileged, baseline, restricted"
    assert all(one.message.endswith(hint) for one in found)
    admitted = review(restricted(), enforce="baselin")
    assert admitted.violations == []
    assert [(one.reason, one.message) for one in admitted.warnings] == [("PodSecurityWarning", hint)]


def test_warn_and_audit_that_are_no_levels_are_none() -> None:
    found = review(pod(), warn="x", audit="y")
    assert (found.violations, found.audit) == ([], [])
    assert [one.message.partition(": ")[0] for one in found.warnings] == [
        f"label {PREFIX}warn",
        f"label {PREFIX}audit",
    ]


@pytest.mark.parametrize("version", ["", "1.30", "v2.0", "v1.030", "v1.x", "newest"])
def test_a_version_that_is_none(version: str) -> None:
    [problem] = policy_of(labels(audit_version=version), "baseline").problems
    assert problem == f'label {PREFIX}audit-version: {version!r} must be "latest" or "v1.x"'


@pytest.mark.parametrize("version", ["latest", "v1.0", "v1.34", "v1.37"])
def test_versions_of_kubernetes(version: str) -> None:
    given = labels(enforce_version=version, warn_version=version, audit_version=version)
    assert policy_of(given, "baseline").problems == ()


def test_warn_and_audit_say_what_would_be_refused() -> None:
    found = review(pod(own(procMount="Unmasked")), enforce="privileged", warn="baseline", audit="restricted")
    assert found.violations == []
    words = 'procMount (container "a" must not set securityContext.procMount to "Unmasked")'
    assert [(one.reason, one.message) for one in found.warnings] == [
        ("PodSecurityWarning", f'would violate PodSecurity "baseline:latest": {words}')
    ]
    [line] = found.audit
    assert line.startswith(
        'pod shop/web would violate PodSecurity "restricted:latest": allowPrivilegeEscalation'
    )


def test_a_pod_that_passes_all_three_is_told_nothing() -> None:
    found = review(restricted(), enforce="restricted", warn="restricted", audit="restricted")
    assert found == Review()


def test_static_pods_are_judged_where_they_are_to_be() -> None:
    made = pod(own(privileged=True), hostNetwork=True)
    images = {"images": {"require_digest": True}}
    assert review(made, static=True, settings=images) == Review()
    enforced = review(made, static=True, settings={"static_pods": "enforce", **images})
    assert len(enforced.violations) == 3
    exempt = AdmissionRequest(static=True)
    assert judge().mutate(made, exempt) is made
    assert judge(static_pods="enforce").mutate(pod(), exempt) != pod()


def test_images_are_judged_in_exempt_namespaces_too() -> None:
    settings = {"exempt_namespaces": ["shop"], "images": {"require_digest": True}}
    [found] = review(pod(hostNetwork=True), settings=settings).violations
    assert found.field == "spec.containers[0].image"


def _profiles(made: Pod) -> list[str]:
    contexts = [one.security_context for one in (*made.spec.init_containers, *made.spec.containers)]
    profiles = [context.seccomp_profile if context is not None else None for context in contexts]
    return [profile.type if profile is not None else "" for profile in profiles]


def test_a_container_that_says_nothing_of_seccomp_gets_the_default() -> None:
    made = pod(
        {},
        own(privileged=True),
        own(seccompProfile={"type": "Unconfined"}),
        own(runAsUser=5),
        initContainers=[{}],
    )
    mutated = judge().mutate(made, AdmissionRequest())
    assert _profiles(mutated) == ["RuntimeDefault", "RuntimeDefault", "", "Unconfined", "RuntimeDefault"]
    last = mutated.spec.containers[3].security_context
    assert last is not None
    assert last.run_as_user == 5
    assert mutated.spec.security_context is None
    assert mutated.metadata == made.metadata
    assert judge().mutate(mutated, AdmissionRequest()) == mutated


@pytest.mark.parametrize("kind", ["Unconfined", "RuntimeDefault", "Localhost"])
def test_what_the_pod_says_of_seccomp_holds(kind: str) -> None:
    made = pod(securityContext={"seccompProfile": {"type": kind}})
    assert judge().mutate(made, AdmissionRequest()) is made


def test_the_default_profile_is_what_restricted_asks_for() -> None:
    made = restricted(securityContext={"seccompProfile": None})
    asked = AdmissionRequest(namespace_labels=labels(enforce="restricted"))
    assert judge().review(made, asked).violations
    assert judge().review(judge().mutate(made, asked), asked).violations == []


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"default_level": "strict"}, "default_level"),
        ({"exempt_namespaces": ["Not_One"]}, "exempt_namespaces"),
        ({"static_pods": "maybe"}, "static_pods"),
        ({"images": {"allowed": ["https://registry.example.com"]}}, "images.allowed"),
        ({"images": {"allowed": ["registry.example.com/"]}}, "images.allowed"),
        ({"images": {"allowed": ["registry.*.com"]}}, "images.allowed"),
        ({"images": {"allow": []}}, "images"),
        ({"images": {"policy_file": "policy.json"}}, "images.policy_file"),
    ],
)
def test_settings_that_are_wrong_are_named(settings: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        convert(settings, SecurityConfig)
    assert caught.value.path.startswith(place)


def test_a_policy_that_is_read_anew_needs_no_restart(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    images = {"require_signatures": ["registry.example.com"], "policy_file": str(file)}
    ours = judge(images=images)
    [missing] = ours.review(pod(), AdmissionRequest()).violations
    assert missing.message.endswith(f"{file} cannot be read: No such file or directory")
    file.write_text(json.dumps({"default": [{"type": "signedBy"}]}))
    assert ours.review(pod(), AdmissionRequest()) == Review()


def test_a_verdict_can_cross_the_lane() -> None:
    found = review(pod(hostNetwork=True), warn="restricted", audit="restricted")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Review) == found
