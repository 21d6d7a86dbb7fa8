"""Each control of the level ``restricted``, and that it admits nothing that ``baseline`` refuses.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.pod import Pod
from edgeagent_security.podsecurity.levels import findings
from edgeagent_security.podsecurity.restricted import RESTRICTED
from tests.plugins.security.pods import own, pod, restricted

BAD: list[tuple[Pod, str, tuple[str, ...]]] = [
    (
        restricted(own(allowPrivilegeEscalation=True), own(allowPrivilegeEscalation=None)),
        'allowPrivilegeEscalation != false (containers "a", "b" must set'
        " securityContext.allowPrivilegeEscalation=false)",
        (
            "spec.containers[0].securityContext.allowPrivilegeEscalation",
            "spec.containers[1].securityContext.allowPrivilegeEscalation",
        ),
    ),
    (
        restricted(
            own(capabilities=None),
            own(capabilities={"drop": ["NET_RAW", "all"], "add": ["NET_BIND_SERVICE", "CHOWN"]}),
        ),
        'unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"];'
        ' container "b" must not include "CHOWN" in securityContext.capabilities.add)',
        (
            "spec.containers[0].securityContext.capabilities.drop",
            "spec.containers[1].securityContext.capabilities.drop",
            "spec.containers[1].securityContext.capabilities.add",
        ),
    ),
    (
        restricted(own(procMount="Unmasked"), hostUsers=False),
        'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ("spec.containers[0].securityContext.procMount",),
    ),
    (
        restricted(
            volumes=[
                {"name": "h", "hostPath": {"path": "/"}},
                {"name": "e", "emptyDir": {}},
                {"name": "n", "nfs": {"server": "s", "path": "/"}},
                {"name": "x"},
            ]
        ),
        'restricted volume types (volumes "h", "n", "x" use restricted volume types'
        ' "hostPath", "nfs", "unknown")',
        ("spec.volumes[0].hostPath", "spec.volumes[2].nfs", "spec.volumes[3]"),
    ),
    (
        restricted(own(runAsNonRoot=False), securityContext={"runAsNonRoot": False}),
        'runAsNonRoot != true (pod and container "a" must not set securityContext.runAsNonRoot=false)',
        ("spec.securityContext.runAsNonRoot", "spec.containers[0].securityContext.runAsNonRoot"),
    ),
    (
        restricted(own(runAsNonRoot=True), {}, securityContext={"runAsNonRoot": None}),
        'runAsNonRoot != true (pod or container "b" must set securityContext.runAsNonRoot=true)',
        ("spec.containers[1].securityContext.runAsNonRoot",),
    ),
    (
        restricted(own(runAsUser=0), own(runAsUser=1), securityContext={"runAsUser": 0}),
        'runAsUser=0 (pod and container "a" must not set runAsUser=0)',
        ("spec.securityContext.runAsUser", "spec.containers[0].securityContext.runAsUser"),
    ),
    (
        restricted(own(seccompProfile={"type": "Localhost"}), {}, securityContext={"seccompProfile": None}),
        'seccompProfile (pod or container "b" must set securityContext.seccompProfile.type to'
        ' "RuntimeDefault" or "Localhost")',
        ("spec.containers[1].securityContext.seccompProfile.type",),
    ),
    (
        restricted(own(seccompProfile={"type": "Unconfined"})),
        'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ("spec.containers[0].securityContext.seccompProfile.type",),
    ),
]

VOLUMES: list[dict[str, Any]] = [
    {"configMap": {"name": "c"}},
    {"csi": {"driver": "d"}},
    {"downwardAPI": {}},
    {"emptyDir": {}},
    {"ephemeral": {}},
    {"image": {"reference": "r"}},
    {"persistentVolumeClaim": {"claimName": "c"}},
    {"projected": {}},
    {"secret": {"secretName": "s"}},
]
GOOD = [
    restricted(),
    restricted({}, own(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})),
    restricted(volumes=[{"name": f"v{index}", **source} for index, source in enumerate(VOLUMES)]),
    restricted(
        own(runAsNonRoot=True, runAsUser=1000), securityContext={"runAsNonRoot": None, "runAsUser": 5}
    ),
    restricted(own(seccompProfile={"type": "Localhost"}), securityContext={"seccompProfile": None}),
    restricted(own(runAsUser=0), securityContext={"runAsNonRoot": False}, hostUsers=False),
    pod(os={"name": "windows"}, securityContext={"runAsNonRoot": True}),
]


@pytest.mark.parametrize(("bad", "words", "fields"), BAD, ids=[words for _, words, _ in BAD])
def test_a_pod_that_breaks_one_control(bad: Pod, words: str, fields: tuple[str, ...]) -> None:
    [found] = findings("restricted", bad)
    assert str(found) == words
    assert found.fields == fields


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_a_pod_that_breaks_none(good: Pod) -> None:
    assert findings("restricted", good) == []


def test_every_control_is_broken_by_a_pod_of_the_table() -> None:
    broken = {name for name, rule in RESTRICTED.items() for bad, _, _ in BAD if rule(bad) is not None}
    assert broken == RESTRICTED.keys()


def test_init_containers_are_held_to_it_too() -> None:
    found = findings("restricted", restricted({}, initContainers=[{}]))
    assert [one.fields[0].split(".")[1] for one in found] == ["initContainers[0]"] * 2


def test_the_words_for_a_plain_pod_are_those_of_kubernetes() -> None:
    """What ``kubectl run`` of an image says in a namespace that enforces ``restricted``."""
    words = ", ".join(map(str, findings("restricted", pod())))
    assert words == (
        'allowPrivilegeEscalation != false (container "a" must set'
        " securityContext.allowPrivilegeEscalation=false),"
        ' unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]),'
        ' runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true),'
        ' seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to'
        ' "RuntimeDefault" or "Localhost")'
    )


PROFILES = st.sampled_from([None, "RuntimeDefault", "Localhost", "Unconfined"]).map(
    lambda kind: None if kind is None else {"type": kind}
)
BOOLS = st.sampled_from([None, True, False])
CAPABILITIES = st.lists(
    st.sampled_from(["ALL", "CHOWN", "NET_RAW", "NET_BIND_SERVICE", "SYS_ADMIN"]), max_size=2
)
LABELS = st.none() | st.fixed_dictionaries(
    {"type": st.sampled_from(["", "container_t", "spc_t"]), "user": st.sampled_from(["", "u"])}
)
CONTEXTS = st.fixed_dictionaries(
    {
        "privileged": BOOLS,
        "allowPrivilegeEscalation": BOOLS,
        "runAsNonRoot": BOOLS,
        "runAsUser": st.sampled_from([None, 0, 1]),
        "capabilities": st.none() | st.fixed_dictionaries({"add": CAPABILITIES, "drop": CAPABILITIES}),
        "seccompProfile": PROFILES,
        "appArmorProfile": PROFILES,
        "seLinuxOptions": LABELS,
        "procMount": st.sampled_from(["", "Default", "Unmasked"]),
    }
)
PROBES = st.sampled_from([None, {"httpGet": {"port": 1}}, {"httpGet": {"port": 1, "host": "h"}}])
CONTAINERS = st.fixed_dictionaries(
    {
        "securityContext": st.none() | CONTEXTS,
        "livenessProbe": PROBES,
        "ports": st.lists(
            st.fixed_dictionaries({"containerPort": st.just(1), "hostPort": st.sampled_from([0, 80])}),
            max_size=1,
        ),
    }
)
SPECS = st.fixed_dictionaries(
    {
        "hostNetwork": st.booleans(),
        "hostPID": st.booleans(),
        "hostUsers": BOOLS,
        "initContainers": st.lists(CONTAINERS, max_size=1),
        "volumes": st.lists(
            st.sampled_from([*VOLUMES, {"hostPath": {"path": "/"}}, {"nfs": {}}]).map(
                lambda source: {"name": "v", **source}
            ),
            max_size=2,
        ),
        "securityContext": st.none()
        | st.fixed_dictionaries(
            {
                "runAsNonRoot": BOOLS,
                "runAsUser": st.sampled_from([None, 0, 1]),
                "seccompProfile": PROFILES,
                "appArmorProfile": PROFILES,
                "seLinuxOptions": LABELS,
                "sysctls": st.lists(
                    st.sampled_from(["kernel.msgmax", "kernel.shm_rmid_forced"]).map(
                        lambda name: {"name": name, "value": "1"}
                    ),
                    max_size=1,
                ),
            }
        ),
    }
)


def _hardened(container: dict[str, Any]) -> dict[str, Any]:
    """The container with what ``restricted`` asks for, so that enough pods come near to being admitted."""
    context = {
        **(container["securityContext"] or {}),
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
    }
    return {**container, "securityContext": {**context, "capabilities": {"drop": ["ALL"]}}}


@given(containers=st.lists(CONTAINERS, min_size=1, max_size=2), spec=SPECS, harden=st.booleans())
def test_what_restricted_admits_baseline_admits_too(
    containers: list[dict[str, Any]], spec: dict[str, Any], harden: bool
) -> None:
    if harden:
        containers = [_hardened(one) for one in containers]
        spec = {**spec, "initContainers": [_hardened(one) for one in spec["initContainers"]]}
    made = pod(*containers, **spec)
    strict, less, none = (findings(level, made) for level in ("restricted", "baseline", "privileged"))
    assert none == []
    if less:
        assert strict
    # Each place that ``baseline`` names is named by ``restricted``, if not by the very same control.
    named = {field for one in strict for field in one.fields}
    for one in less:
        assert named.issuperset(one.fields), one
