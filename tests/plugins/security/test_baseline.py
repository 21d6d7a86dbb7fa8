"""Each control of the level ``baseline``, with pods of Kubernetes' documentation and of its own tests.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
"""

import pytest

from edgeagent.api.objects.pod import Pod
from edgeagent_security.podsecurity import baseline
from edgeagent_security.podsecurity.baseline import BASELINE, CAPABILITIES, SYSCTLS
from edgeagent_security.podsecurity.levels import findings
from tests.plugins.security.pods import own, pod

CTX = "securityContext"
PROBE = {"httpGet": {"port": 80, "host": "10.0.0.1"}}
ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"

BAD: list[tuple[Pod, str, tuple[str, ...]]] = [
    (
        pod(hostNetwork=True),
        "host namespaces (hostNetwork=true)",
        ("spec.hostNetwork",),
    ),
    (
        pod(hostNetwork=True, hostPID=True, hostIPC=True),
        "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ("spec.hostNetwork", "spec.hostPID", "spec.hostIPC"),
    ),
    (
        pod(own(privileged=True)),
        'privileged (container "a" must not set securityContext.privileged=true)',
        ("spec.containers[0].securityContext.privileged",),
    ),
    (
        pod({}, own(privileged=True), initContainers=[own(privileged=True)]),
        'privileged (containers "i0", "b" must not set securityContext.privileged=true)',
        (
            "spec.initContainers[0].securityContext.privileged",
            "spec.containers[1].securityContext.privileged",
        ),
    ),
    (
        pod(
            own(capabilities={"add": ["NET_RAW", "CHOWN"]}), own(capabilities={"add": ["CAP_CHOWN", "chown"]})
        ),
        'non-default capabilities (containers "a", "b" must not include "CAP_CHOWN", "NET_RAW", "chown"'
        " in securityContext.capabilities.add)",
        (
            "spec.containers[0].securityContext.capabilities.add",
            "spec.containers[1].securityContext.capabilities.add",
        ),
    ),
    (
        pod(own(capabilities={"add": ["ALL"]})),
        'non-default capabilities (container "a" must not include "ALL" in securityContext.capabilities.add)',
        ("spec.containers[0].securityContext.capabilities.add",),
    ),
    (
        pod(
            volumes=[
                {"name": "fine", "emptyDir": {}},
                {"name": "one", "hostPath": {"path": "/"}},
                {"name": "two", "hostPath": {"path": "/dev"}},
            ]
        ),
        'hostPath volumes (volumes "one", "two")',
        ("spec.volumes[1].hostPath", "spec.volumes[2].hostPath"),
    ),
    (
        pod({"ports": [{"containerPort": 1}, {"containerPort": 2, "hostPort": 12345}]}),
        'hostPort (container "a" uses hostPort 12345)',
        ("spec.containers[0].ports[1].hostPort",),
    ),
    (
        pod(
            {"ports": [{"containerPort": 2, "hostPort": 99}]},
            {"ports": [{"containerPort": 2, "hostPort": 100}]},
        ),
        'hostPort (containers "a", "b" use hostPorts 100, 99)',
        ("spec.containers[0].ports[0].hostPort", "spec.containers[1].ports[0].hostPort"),
    ),
    (
        pod(
            {
                "livenessProbe": PROBE,
                "readinessProbe": PROBE,
                "startupProbe": {"tcpSocket": {"port": 1, "host": "h"}},
            }
        ),
        'probe or lifecycle host (container "a" uses probe or lifecycle hosts "10.0.0.1", "h")',
        (
            "spec.containers[0].livenessProbe.httpGet.host",
            "spec.containers[0].readinessProbe.httpGet.host",
            "spec.containers[0].startupProbe.tcpSocket.host",
        ),
    ),
    (
        pod(
            {
                "lifecycle": {
                    "postStart": {"httpGet": {"port": 1, "host": "h"}},
                    "preStop": {"tcpSocket": {"port": 1, "host": "h"}},
                }
            },
            initContainers=[
                {"restartPolicy": "Always", "readinessProbe": {"httpGet": {"port": 1, "host": "h"}}}
            ],
        ),
        'probe or lifecycle host (containers "a", "i0" use probe or lifecycle host "h")',
        (
            "spec.initContainers[0].readinessProbe.httpGet.host",
            "spec.containers[0].lifecycle.postStart.httpGet.host",
            "spec.containers[0].lifecycle.preStop.tcpSocket.host",
        ),
    ),
    (
        pod(
            own(appArmorProfile={"type": "Unconfined"}),
            securityContext={"appArmorProfile": {"type": "Unconfined"}},
        ),
        'forbidden AppArmor profile (pod and container "a" must not set AppArmor profile type to'
        ' "Unconfined")',
        (
            "spec.securityContext.appArmorProfile.type",
            "spec.containers[0].securityContext.appArmorProfile.type",
        ),
    ),
    (
        pod(
            own(appArmorProfile={"type": "Unconfined"}),
            metadata={
                "annotations": {
                    f"{ANNOTATION}a": "unconfined",
                    f"{ANNOTATION}b": "localhost/x",
                    "c": "unconfined",
                }
            },
        ),
        'forbidden AppArmor profiles (container "a" and annotation must not set AppArmor profile type to'
        f' "Unconfined", "{ANNOTATION}a="unconfined"")',
        (
            "spec.containers[0].securityContext.appArmorProfile.type",
            f"metadata.annotations[{ANNOTATION}a]",
        ),
    ),
    (
        pod(
            own(seLinuxOptions={"type": "spc_t", "level": "s0"}),
            own(seLinuxOptions={"user": "u"}),
            securityContext={"seLinuxOptions": {"role": "r", "type": "other_t"}},
        ),
        'seLinuxOptions (pod and containers "a", "b" set forbidden securityContext.seLinuxOptions:'
        ' types "other_t", "spc_t"; user may not be set; role may not be set)',
        (
            "spec.securityContext.seLinuxOptions.type",
            "spec.securityContext.seLinuxOptions.role",
            "spec.containers[0].securityContext.seLinuxOptions.type",
            "spec.containers[1].securityContext.seLinuxOptions.user",
        ),
    ),
    (
        pod(own(procMount="Unmasked")),
        'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ("spec.containers[0].securityContext.procMount",),
    ),
    (
        pod(
            own(seccompProfile={"type": "Unconfined"}),
            securityContext={"seccompProfile": {"type": "Unconfined"}},
        ),
        'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to'
        ' "Unconfined")',
        (
            "spec.securityContext.seccompProfile.type",
            "spec.containers[0].securityContext.seccompProfile.type",
        ),
    ),
    (
        pod(
            securityContext={
                "sysctls": [
                    {"name": "kernel.msgmax", "value": "1"},
                    {"name": "net.ipv4.tcp_syncookies", "value": "1"},
                    {"name": "net/ipv4/tcp_syncookies", "value": "1"},
                ]
            }
        ),
        "forbidden sysctls (kernel.msgmax, net/ipv4/tcp_syncookies)",
        ("spec.securityContext.sysctls[0].name", "spec.securityContext.sysctls[2].name"),
    ),
    (
        pod(
            own(windowsOptions={"hostProcess": True}),
            securityContext={"windowsOptions": {"hostProcess": True}},
        ),
        'hostProcess (pod and container "a" must not set securityContext.windowsOptions.hostProcess=true)',
        (
            "spec.securityContext.windowsOptions.hostProcess",
            "spec.containers[0].securityContext.windowsOptions.hostProcess",
        ),
    ),
]

GOOD = [
    pod(),
    pod(hostNetwork=False, hostPID=False, hostIPC=False, shareProcessNamespace=True),
    pod(own(privileged=False), own(), initContainers=[own(privileged=False)]),
    *(pod(own(capabilities={"add": [name]})) for name in sorted(CAPABILITIES)),
    pod(own(capabilities={"drop": ["NET_RAW"]})),
    pod(volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "nfs": {"server": "s", "path": "/"}}]),
    pod({"ports": [{"containerPort": 1, "hostPort": 0}]}),
    pod(
        {
            "livenessProbe": {"httpGet": {"port": 1, "host": ""}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        }
    ),
    pod({"livenessProbe": {"grpc": {"port": 1}}, "readinessProbe": {"exec": {"command": ["true"]}}}),
    *(
        pod(own(appArmorProfile={"type": kind}, seccompProfile={"type": kind, "localhostProfile": "p"}))
        for kind in ("RuntimeDefault", "Localhost")
    ),
    pod(
        metadata={
            "annotations": {
                f"{ANNOTATION}a": "runtime/default",
                f"{ANNOTATION}b": "localhost/p",
                f"{ANNOTATION}c": "",
            }
        }
    ),
    *(
        pod(
            own(seLinuxOptions={"type": kind, "level": "s0:c1"}),
            securityContext={"seLinuxOptions": {"type": kind}},
        )
        for kind in ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
    ),
    pod(own(procMount="Default"), own(procMount="")),
    pod(own(procMount="Unmasked"), hostUsers=False),
    pod(securityContext={"sysctls": [{"name": name, "value": "1"} for name in sorted(SYSCTLS)]}),
    pod(own(runAsUser=0, allowPrivilegeEscalation=True)),
    pod(own(windowsOptions={"hostProcess": False})),
]


@pytest.mark.parametrize(("bad", "words", "fields"), BAD, ids=[words for _, words, _ in BAD])
def test_a_pod_that_breaks_one_control(bad: Pod, words: str, fields: tuple[str, ...]) -> None:
    [found] = findings("baseline", bad)
    assert str(found) == words
    assert found.fields == fields
    assert findings("privileged", bad) == []


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_a_pod_that_breaks_none(good: Pod) -> None:
    assert findings("baseline", good) == []


def test_every_control_is_broken_by_a_pod_of_the_table() -> None:
    broken = {name for name, rule in BASELINE.items() for bad, _, _ in BAD if rule(bad) is not None}
    assert broken == BASELINE.keys()


def test_findings_come_in_the_order_of_kubernetes() -> None:
    assert list(BASELINE) == sorted(BASELINE)
    everything = pod(own(privileged=True, procMount="Unmasked"), hostNetwork=True)
    assert [one.reason for one in findings("baseline", everything)] == [
        "host namespaces",
        "privileged",
        "procMount",
    ]


def test_what_restricted_asks_of_proc_holds_in_user_namespaces_too() -> None:
    assert baseline.masked_proc(pod(own(procMount="Unmasked"), hostUsers=False)) is not None
