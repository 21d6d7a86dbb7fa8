"""Descriptions of pods, section by section, as ``kubectl describe pod`` lays them out."""

from datetime import UTC
from typing import Any

import pytest

from edgeagent.api.objects.decode import convert, decode_object
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.probe import Probe
from edgeagent.cli.describe import describe
from edgeagent.cli.describe_container import format_probe

NOW = 1_700_000_000.0


def told(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **container: Any
) -> list[str]:
    """The lines about a pod with one container of this kind, without the spaces at their ends."""
    made = convert(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "hello",
                "namespace": "shop",
                "uid": "u1",
                "labels": {"app": "web"},
                "annotations": {"note": "kept"},
            },
            "spec": {"containers": [{"name": "web", "image": "x", **container}], **(spec or {})},
            "status": status or {},
        },
        Pod,
    )
    return describe(made, now=NOW, timezone=UTC).split("\n")


def section(lines: list[str], heading: str) -> list[str]:
    """What stands below the line that begins with ``heading``, indented further; spaces made single."""
    start = next(index for index, line in enumerate(lines) if line.strip().startswith(heading))
    margin = len(lines[start]) - len(lines[start].lstrip())
    below = []
    for line in lines[start + 1 :]:
        if len(line) - len(line.lstrip()) <= margin:
            break
        below.append(" ".join(line.split()))
    return below


def value(lines: list[str], label: str) -> str:
    """What stands beside ``label``."""
    line = next(line for line in lines if line.strip().startswith(label))
    return line.strip().removeprefix(label).strip()


PROBES = [
    (
        {"httpGet": {"path": "/healthz", "port": 8080}},
        "http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3",
    ),
    (
        {
            "httpGet": {"path": "a b?c", "port": "web", "host": "fe80::1", "scheme": "HTTPS"},
            "initialDelaySeconds": 5,
            "timeoutSeconds": 2,
            "periodSeconds": 3,
            "successThreshold": 4,
            "failureThreshold": 6,
        },
        "http-get https://[fe80::1]:web/a%20b%3Fc delay=5s timeout=2s period=3s #success=4 #failure=6",
    ),
    (
        {"exec": {"command": ["cat", "/tmp/healthy"]}},  # noqa: S108
        "exec [cat /tmp/healthy] delay=0s timeout=1s period=10s #success=1 #failure=3",
    ),
    (
        {"tcpSocket": {"port": 5432}},
        "tcp-socket :5432 delay=0s timeout=1s period=10s #success=1 #failure=3",
    ),
    (
        {"grpc": {"port": 9000, "service": "live"}},
        "grpc <pod>:9000 live delay=0s timeout=1s period=10s #success=1 #failure=3",
    ),
    ({}, "unknown delay=0s timeout=1s period=10s #success=1 #failure=3"),
]


@pytest.mark.parametrize(("probe", "text"), PROBES)
def test_probes(probe: dict[str, Any], text: str) -> None:
    assert format_probe(convert(probe, Probe)) == text


def test_each_probe_has_its_label() -> None:
    probes = {"livenessProbe": {"tcpSocket": {"port": 1}}, "startupProbe": {"tcpSocket": {"port": 2}}}
    lines = told(**probes, readinessProbe={"tcpSocket": {"port": 3}})
    assert [value(lines, label).split()[1] for label in ("Liveness:", "Readiness:", "Startup:")] == [
        ":1",
        ":3",
        ":2",
    ]


def test_variables() -> None:
    lines = told(
        env=[
            {"name": "TEXT", "value": "one\ntwo"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
            {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            {"name": "FILE", "valueFrom": {"fileKeyRef": {"key": "k"}}},
        ],
        envFrom=[{"prefix": "X_", "secretRef": {"name": "all", "optional": True}}],
        resources={"limits": {"cpu": "300m"}},
    )
    assert section(lines, "Environment:") == [
        "TEXT: one",
        "two",
        "NAME: hello (v1:metadata.name)",
        "APP: web (v1:metadata.labels['app'])",
        "NOTE: kept (v1:metadata.annotations['note'])",
        "NODE: (v1:spec.nodeName)",
        "MILLI: 300 (limits.cpu)",
        "CORES: 1 (requests.cpu)",
        "MEMORY: node allocatable (limits.memory)",
        "KEY: <set to the key 'k' in secret 's'> Optional: true",
        "FILE: <not supported by edgeagent>",
    ]
    assert section(lines, "Environment Variables from:") == ["all Secret with prefix 'X_' Optional: true"]


def test_mounts_are_sorted_by_their_path() -> None:
    lines = told(
        volumeMounts=[
            {"name": "b", "mountPath": "/etc/b", "subPath": 'x"y', "readOnly": True},
            {"name": "data", "mountPath": "/data", "subPath": "x"},
            {"name": "a", "mountPath": "/a"},
            {"name": "e", "mountPath": "/e", "subPathExpr": "$(NAME)"},
        ]
    )
    assert section(lines, "Mounts:") == [
        "/a from a (rw)",
        '/data from data (rw,path="x")',
        '/e from e (rw,path="$(NAME)")',
        '/etc/b from b (ro,path="x\\"y")',
    ]
    assert value(told(), "Mounts:") == "<none>"


VOLUMES: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"hostPath": {"path": "/srv"}},
        ["Type: HostPath (bare host directory volume)", "Path: /srv", "HostPathType: <none>"],
    ),
    (
        {"hostPath": {"path": "/srv", "type": "Directory"}},
        ["Type: HostPath (bare host directory volume)", "Path: /srv", "HostPathType: Directory"],
    ),
    (
        {"emptyDir": {}},
        [
            "Type: EmptyDir (a temporary directory that shares a pod's lifetime)",
            "Medium:",
            "SizeLimit: <unset>",
        ],
    ),
    (
        {"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        [
            "Type: EmptyDir (a temporary directory that shares a pod's lifetime)",
            "Medium: Memory",
            "SizeLimit: 64Mi",
        ],
    ),
    (
        {"configMap": {"name": "c"}},
        ["Type: ConfigMap (a volume populated by a ConfigMap)", "Name: c", "Optional: false"],
    ),
    (
        {"secret": {"secretName": "s", "optional": True}},
        ["Type: Secret (a volume populated by a Secret)", "SecretName: s", "Optional: true"],
    ),
    (
        {
            "downwardAPI": {
                "items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {
                        "path": "cpu",
                        "resourceFieldRef": {"containerName": "web", "resource": "limits.cpu"},
                    },
                ]
            }
        },
        [
            "Type: DownwardAPI (a volume populated by information about the pod)",
            "Items:",
            "metadata.labels -> labels",
            "limits.cpu -> cpu",
        ],
    ),
    (
        {
            "projected": {
                "sources": [
                    {"secret": {"name": "s"}},
                    {"downwardAPI": {}},
                    {"configMap": {"name": "c", "optional": True}},
                    {"serviceAccountToken": {"path": "token"}},
                ]
            }
        },
        [
            "Type: Projected (a volume that contains injected data from multiple sources)",
            "SecretName: s",
            "Optional: false",
            "DownwardAPI: true",
            "ConfigMapName: c",
            "Optional: true",
            "serviceAccountToken: not supported by edgeagent",
        ],
    ),
    ({"nfs": {"server": "a", "path": "/"}}, ["Type: nfs (not supported by edgeagent)"]),
]


@pytest.mark.parametrize(("source", "lines"), VOLUMES)
def test_volumes(source: dict[str, Any], lines: list[str]) -> None:
    text = told({"volumes": [{"name": "first", **source}, {"name": "last", "emptyDir": {}}]})
    assert section(text, "first:") == lines
    assert section(text, "Volumes:")[0] == "first:"
    assert "last:" in section(text, "Volumes:")


def test_init_containers_have_a_section_of_their_own_before_the_others() -> None:
    spec = {"initContainers": [{"name": "proxy", "image": "p", "restartPolicy": "Always"}]}
    ended = {"exitCode": 137, "reason": "OOMKilled", "startedAt": "2023-11-14T22:00:00Z"}
    status = {
        "qosClass": "Burstable",
        "initContainerStatuses": [
            {
                "name": "proxy",
                "state": {"running": {"startedAt": "2023-11-14T22:01:00Z"}},
                "lastState": {"terminated": ended},
                "restartCount": 1,
                "ready": True,
            }
        ],
    }
    lines = told(spec, status)
    assert section(lines, "Init Containers:") == [
        "proxy:",
        "Container ID:",
        "Image: p",
        "Image ID:",
        "Port: <none>",
        "Host Port: <none>",
        "Restart Policy: Always",
        "State: Running",
        "Started: Tue, 14 Nov 2023 22:01:00 +0000",
        "Last State: Terminated",
        "Reason: OOMKilled",
        "Exit Code: 137",
        "Started: Tue, 14 Nov 2023 22:00:00 +0000",
        "Finished:",
        "Ready: True",
        "Restart Count: 1",
        "Environment: <none>",
        "Mounts: <none>",
    ]
    assert lines.index("Init Containers:") < lines.index("Containers:")
    assert value(lines, "QoS Class:") == "Burstable"
    assert "Init Containers:" not in told()


def test_who_the_pod_is_comes_first() -> None:
    spec = {"priority": 1000, "priorityClassName": "high", "serviceAccountName": "robot", "nodeName": "n1"}
    head = [" ".join(line.split()) for line in told(spec)[:6]]
    assert head == [
        "Name: hello",
        "Namespace: shop",
        "Priority: 1000",
        "Priority Class Name: high",
        "Service Account: robot",
        "Node: n1/",
    ]


def test_security_contexts() -> None:
    pod = {
        "runAsUser": 1000,
        "runAsNonRoot": True,
        "supplementalGroups": [5, 6],
        "sysctls": [{"name": "net.a", "value": "1"}, {"name": "net.b", "value": "2"}],
        "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
    }
    container = {
        "privileged": False,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    lines = told({"securityContext": pod}, securityContext=container)
    assert value(lines, "SeccompProfile:") == "Localhost"
    assert value(lines, "LocalhostProfile:") == "a.json"
    assert section(lines, "Security Context:") == [
        "runAsUser: 1000",
        "runAsNonRoot: true",
        "supplementalGroups: 5,6",
        "sysctls: name=net.a, value=1; name=net.b, value=2",
    ]
    inner = section(lines, "web:")
    assert "SeccompProfile: RuntimeDefault" in inner
    assert inner[inner.index("Security Context:") :][1:3] == [
        "capabilities: add=NET_ADMIN, drop=ALL",
        "privileged: false",
    ]
    assert not any("Security" in line or "Seccomp" in line for line in told({"securityContext": {}}))


def test_a_pod_that_is_over_and_going_shows_how_it_ended() -> None:
    made = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "hello", "deletionTimestamp": "2023-11-14T22:00:00Z"},
            "spec": {"containers": [{"name": "web", "image": "x"}]},
            "status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"},
        }
    )
    lines = describe(made, now=NOW, timezone=UTC).split("\n")
    assert [value(lines, label) for label in ("Status:", "Reason:", "Message:")] == [
        "Failed",
        "Evicted",
        "The node was low on memory",
    ]
