"""Kubernetes' rules for containers, their probes and hooks; each error names its place."""

from typing import Any

import pytest

from tests.api.podkit import container, pod, refusal

EXEC: dict[str, Any] = {"exec": {"command": ["true"]}}
HTTP: dict[str, Any] = {"httpGet": {"port": 80}}


def init(**fields: Any) -> dict[str, Any]:
    return {"initContainers": [{"name": "setup", "image": "busybox:1", **fields}]}


def from_field(**reference: Any) -> dict[str, Any]:
    return {"env": [{"name": "A", "valueFrom": reference}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"livenessProbe": EXEC, "readinessProbe": HTTP, "startupProbe": {"grpc": {"port": 50051}}},
        {"livenessProbe": {"tcpSocket": {"port": "http-2"}}},
        {"readinessProbe": {**HTTP, "successThreshold": 3, "initialDelaySeconds": 0}},
        {"livenessProbe": {**HTTP, "terminationGracePeriodSeconds": 1}},
        {"lifecycle": {"postStart": EXEC, "preStop": {"sleep": {"seconds": 30}}}},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 0}}}},
        {"lifecycle": {"preStop": {"tcpSocket": {"port": 80}}}},
        {"ports": [{"containerPort": 1}, {"containerPort": 65535}, {"containerPort": 1, "name": "a-1"}]},
        {
            "ports": [
                {"containerPort": 53, "hostPort": 53},
                {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
            ]
        },
        {"env": [{"name": "my.var-1 x"}, {"name": "1A", "value": "x"}]},
        from_field(fieldRef={"fieldPath": "metadata.labels['app.kubernetes.io/name']"}),
        from_field(fieldRef={"fieldPath": "metadata.annotations['Example.COM/Key']", "apiVersion": "v1"}),
        *[
            from_field(fieldRef={"fieldPath": path})
            for path in (
                "metadata.name",
                "metadata.namespace",
                "metadata.uid",
                "spec.nodeName",
                "spec.serviceAccountName",
                "status.hostIP",
                "status.hostIPs",
                "status.podIP",
                "status.podIPs",
            )
        ],
        from_field(resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}),
        from_field(
            resourceFieldRef={"resource": "requests.memory", "divisor": "1Mi", "containerName": "main"}
        ),
        from_field(resourceFieldRef={"resource": "limits.ephemeral-storage", "divisor": 0}),
        from_field(fileKeyRef={"volumeName": "v", "path": "p", "key": "k"}),
        {"envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}]},
        {"resources": {"limits": {"cpu": 1, "nvidia.com/gpu": 1}, "requests": {"cpu": "1000m"}}},
        {"securityContext": {"privileged": True, "allowPrivilegeEscalation": True}},
        {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
        {"securityContext": {"runAsUser": 1000, "procMount": "Unmasked"}},
    ],
)
def test_a_container_that_can_be(fields: dict[str, Any]) -> None:
    pod(**container(**fields))


@pytest.mark.parametrize("kind", ["livenessProbe", "readinessProbe", "startupProbe"])
@pytest.mark.parametrize(
    ("probe", "path"),
    [
        ({}, ""),
        ({**EXEC, **HTTP}, ""),
        ({"exec": {"command": []}}, ".exec.command"),
        ({"httpGet": {"port": 0}}, ".httpGet.port"),
        ({"httpGet": {"port": 65536}}, ".httpGet.port"),
        ({"httpGet": {"port": ""}}, ".httpGet.port"),
        ({"httpGet": {"port": "http_port"}}, ".httpGet.port"),
        ({"httpGet": {"port": "80"}}, ".httpGet.port"),
        ({"httpGet": {"port": 80, "httpHeaders": [{"name": "X Y"}]}}, ".httpGet.httpHeaders[0].name"),
        ({"httpGet": {"port": 80, "httpHeaders": [{"name": "A\r\nB"}]}}, ".httpGet.httpHeaders[0].name"),
        ({"tcpSocket": {"port": "sixteen-letters-"}}, ".tcpSocket.port"),
        ({"tcpSocket": {"port": "a--b"}}, ".tcpSocket.port"),
        ({"grpc": {"port": -1}}, ".grpc.port"),
        ({**EXEC, "initialDelaySeconds": -1}, ".initialDelaySeconds"),
        ({**EXEC, "timeoutSeconds": 0}, ".timeoutSeconds"),
        ({**EXEC, "periodSeconds": 0}, ".periodSeconds"),
        ({**EXEC, "periodSeconds": 2**31}, ".periodSeconds"),
        ({**EXEC, "successThreshold": 0}, ".successThreshold"),
        ({**EXEC, "failureThreshold": 0}, ".failureThreshold"),
        ({**EXEC, "terminationGracePeriodSeconds": 0}, ".terminationGracePeriodSeconds"),
    ],
)
def test_a_probe_that_cannot_be(kind: str, probe: dict[str, Any], path: str) -> None:
    assert refusal(**container(**{kind: probe})) == f"spec.containers[0].{kind}{path}"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"livenessProbe": {**EXEC, "successThreshold": 2}}, "livenessProbe.successThreshold"),
        ({"startupProbe": {**EXEC, "successThreshold": 2}}, "startupProbe.successThreshold"),
        (
            {"readinessProbe": {**EXEC, "terminationGracePeriodSeconds": 5}},
            "readinessProbe.terminationGracePeriodSeconds",
        ),
        ({"lifecycle": {"postStart": {}}}, "lifecycle.postStart"),
        ({"lifecycle": {"preStop": {**EXEC, "tcpSocket": {}}}}, "lifecycle.preStop"),
        ({"lifecycle": {"preStop": {"exec": {}}}}, "lifecycle.preStop.exec.command"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}, "lifecycle.preStop.sleep.seconds"),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": -1}}}}, "lifecycle.preStop.sleep.seconds"),
        ({"lifecycle": {"stopSignal": "SIGTERM"}}, "lifecycle.stopSignal"),
        ({"ports": [{"containerPort": 1, "name": "A"}]}, "ports[0].name"),
        ({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}, "ports[1].name"),
        (
            {"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]},
            "ports[1].hostPort",
        ),
        ({"env": [{"name": ""}]}, "env[0].name"),
        ({"env": [{"name": "Ä"}]}, "env[0].name"),
        ({"env": [{"name": "A\n"}]}, "env[0].name"),
        ({"env": [{"name": "A", "value": "\0"}]}, "env[0].value"),
        (
            from_field(fieldRef={"fieldPath": "metadata.name"}, configMapKeyRef={"name": "c", "key": "k"}),
            "env[0].valueFrom",
        ),
        (from_field(configMapKeyRef={"name": "C", "key": "k"}), "env[0].valueFrom.configMapKeyRef.name"),
        (from_field(secretKeyRef={"name": "c", "key": ""}), "env[0].valueFrom.secretKeyRef.key"),
        (from_field(secretKeyRef={"name": "c", "key": "a/b"}), "env[0].valueFrom.secretKeyRef.key"),
        *[
            (from_field(fieldRef={"fieldPath": path}), "env[0].valueFrom.fieldRef.fieldPath")
            for path in ("", "spec.x", "metadata.labels", "metadata.labels['']", "metadata.labels['a b']",
                         "metadata.labels[a]", "metadata.labels['/a']", "status.phase", "metadata.name['a']")
        ],
        *[
            (from_field(resourceFieldRef={"resource": name}), "env[0].valueFrom.resourceFieldRef.resource")
            for name in ("", "cpu", "limits.gpu", "limits.", "status.cpu")
        ],
        *[
            (
                from_field(resourceFieldRef={"resource": name, "divisor": divisor}),
                "env[0].valueFrom.resourceFieldRef.divisor",
            )
            for name, divisor in (("limits.cpu", "1k"), ("limits.memory", "1m"), ("limits.memory", "2"),
                                  ("limits.cpu", "x"), ("requests.memory", "-1"))
        ],
        ({"envFrom": [{"prefix": "a=b", "secretRef": {"name": "s"}}]}, "envFrom[0].prefix"),
        ({"envFrom": [{"secretRef": {"name": ""}}]}, "envFrom[0].secretRef.name"),
        ({"envFrom": [{"secretRef": {"name": "s"}, "configMapRef": {"name": "s"}}]}, "envFrom[0]"),
        ({"image": ""}, "image"),
        ({"resources": {"limits": {"memory": "-1"}}}, "resources.limits.memory"),
        ({"resources": {"requests": {"gpu": "x"}}}, "resources.requests.gpu"),
        (
            {"resources": {"limits": {"memory": "1M"}, "requests": {"memory": "1Mi"}}},
            "resources.requests.memory",
        ),
        (
            {"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}},
            "securityContext.allowPrivilegeEscalation",
        ),
        (
            {
                "securityContext": {
                    "capabilities": {"add": ["CAP_SYS_ADMIN"]},
                    "allowPrivilegeEscalation": False,
                }
            },
            "securityContext.allowPrivilegeEscalation",
        ),
        (
            {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}, "allowPrivilegeEscalation": False}},
            "securityContext.allowPrivilegeEscalation",
        ),
        ({"terminationMessagePath": "log"}, "terminationMessagePath"),
        ({"terminationMessagePath": "/"}, "terminationMessagePath"),
        ({"terminationMessagePath": "//a/.."}, "terminationMessagePath"),
        ({"securityContext": {"runAsUser": -1}}, "securityContext.runAsUser"),
        (
            {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
            "securityContext.seccompProfile.localhostProfile",
        ),
    ],
)  # fmt: skip
def test_a_container_that_cannot_be(fields: dict[str, Any], path: str) -> None:
    assert refusal(**container(**fields)) == f"spec.containers[0].{path}"


@pytest.mark.parametrize(
    "signal", ["SIGTERM", "SIGUSR1", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+15", "SIGRTMAX-14", "SIGRTMAX"]
)
def test_a_stop_signal_needs_the_pods_os(signal: str) -> None:
    fields = container(lifecycle={"stopSignal": signal})
    pod(**fields, os={"name": "linux"})
    assert refusal(**fields) == "spec.containers[0].lifecycle.stopSignal"


@pytest.mark.parametrize("signal", ["TERM", "15", "SIGNOTHING", "SIGRTMIN+16", "SIGRTMAX-15", "SIGTERM "])
def test_what_is_no_stop_signal(signal: str) -> None:
    fields = container(lifecycle={"stopSignal": signal})
    assert refusal(**fields, os={"name": "linux"}) == "spec.containers[0].lifecycle.stopSignal"


def test_a_sleep_may_last_as_long_as_the_grace_period() -> None:
    hook = container(lifecycle={"preStop": {"sleep": {"seconds": 60}}})
    pod(**hook, terminationGracePeriodSeconds=60)
    assert refusal(**hook, terminationGracePeriodSeconds=59).endswith("sleep.seconds")


@pytest.mark.parametrize("field", ["livenessProbe", "readinessProbe", "startupProbe"])
def test_probes_of_init_containers_are_for_sidecars(field: str) -> None:
    pod(**init(restartPolicy="Always", **{field: EXEC}))
    assert refusal(**init(**{field: EXEC})) == f"spec.initContainers[0].{field}"
    assert refusal(**init(restartPolicy="Always", **{field: {}})) == f"spec.initContainers[0].{field}"


def test_hooks_of_init_containers_are_for_sidecars() -> None:
    hook = {"lifecycle": {"preStop": EXEC}}
    pod(**init(restartPolicy="Always", **hook))
    assert refusal(**init(**hook)) == "spec.initContainers[0].lifecycle"


@pytest.mark.parametrize("policy", ["OnFailure", "Never"])
def test_an_init_containers_restart_policy_is_always_or_none(policy: str) -> None:
    assert refusal(**init(restartPolicy=policy)) == "spec.initContainers[0].restartPolicy"


def test_names_are_unique_over_all_containers() -> None:
    assert refusal(**init(name="main")) == "spec.initContainers[0].name"
    twice = [{"name": "setup", "image": "busybox:1"}] * 2
    assert refusal(initContainers=twice) == "spec.initContainers[1].name"


def test_a_host_port_is_taken_once_over_all_containers() -> None:
    both = [
        {"name": name, "image": "busybox:1", "ports": [{"containerPort": 80, "hostPort": 80}]}
        for name in ("a", "b")
    ]
    assert refusal(containers=both) == "spec.containers[1].ports[0].hostPort"
    pod(containers=both[:1], initContainers=both[1:])


def test_an_init_container_meets_the_rules_of_all_containers() -> None:
    assert refusal(**init(ports=[{"containerPort": 0}])) == "spec.initContainers[0].ports[0].containerPort"
    mounts = [{"name": "none", "mountPath": "/x"}]
    assert refusal(**init(volumeMounts=mounts)) == "spec.initContainers[0].volumeMounts[0].name"
