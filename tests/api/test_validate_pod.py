"""Kubernetes' rules for what a pod has beside containers and volumes; each error names its place."""

from typing import Any

import pytest

from tests.api.podkit import container, pod, refusal

SEARCHES = [f"a{index}.example" for index in range(33)]


@pytest.mark.parametrize(
    "spec",
    [
        {"activeDeadlineSeconds": 1},
        {"terminationGracePeriodSeconds": 0},
        {"hostname": "web-0", "subdomain": "default-subdomain", "setHostnameAsFQDN": True},
        {"hostnameOverride": "web.example"},
        {"hostAliases": [{"ip": "127.0.0.1", "hostnames": ["foo.local", "bar"]}, {"ip": "fd00::1"}]},
        {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}},
        {"dnsConfig": {"searches": [".", "ns1.svc.cluster-domain.example", "_tcp.example."]}},
        {"dnsConfig": {"options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}},
        {"dnsConfig": {"searches": SEARCHES[:32]}},
        {"imagePullSecrets": [{"name": "my-registry.key"}, {"name": ""}]},
        {"priority": 1_000_000_000},
        {"priority": -2_147_483_648},
        {"priority": 2_000_001_000, "priorityClassName": "system-node-critical"},
        {"priorityClassName": "high"},
        {"shareProcessNamespace": True},
        {"hostPID": True},
        {"serviceAccountName": "builder.robot"},
        {"securityContext": {"runAsUser": 0, "runAsGroup": 2**31 - 1, "fsGroup": 2000}},
        {"securityContext": {"supplementalGroups": [0, 4000]}},
        {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p/audit.json"}}},
        {"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "k8s-deny"}}},
        {"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "0"}]}},
        {"securityContext": {"sysctls": [{"name": "net/ipv4/conf/eth0.1/rp_filter", "value": "0"}]}},
    ],
)
def test_a_pod_that_can_be(spec: dict[str, Any]) -> None:
    pod(**spec)


def context(**fields: Any) -> dict[str, Any]:
    return {"securityContext": fields}


SYSCTL = {"name": "net.core.somaxconn", "value": "1"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"activeDeadlineSeconds": 0}, "activeDeadlineSeconds"),
        ({"activeDeadlineSeconds": 2**31}, "activeDeadlineSeconds"),
        ({"terminationGracePeriodSeconds": -1}, "terminationGracePeriodSeconds"),
        ({"hostname": "a.b"}, "hostname"),
        ({"hostname": "a" * 64}, "hostname"),
        ({"subdomain": "A"}, "subdomain"),
        ({"hostnameOverride": "a" * 65}, "hostnameOverride"),
        ({"hostnameOverride": "a_b"}, "hostnameOverride"),
        ({"hostnameOverride": "a", "hostNetwork": True}, "hostnameOverride"),
        ({"hostnameOverride": "a", "setHostnameAsFQDN": True}, "hostnameOverride"),
        ({"hostAliases": [{"ip": "1.2.3"}]}, "hostAliases[0].ip"),
        ({"hostAliases": [{"ip": "1.2.3.04"}]}, "hostAliases[0].ip"),
        ({"hostAliases": [{"ip": "fe80::1%eth0"}]}, "hostAliases[0].ip"),
        ({"hostAliases": [{"ip": "1.2.3.4\0"}]}, "hostAliases[0].ip"),
        ({"hostAliases": [{"ip": "::1", "hostnames": ["a", "b c"]}]}, "hostAliases[0].hostnames[1]"),
        ({"dnsPolicy": "None"}, "dnsConfig"),
        ({"dnsPolicy": "None", "dnsConfig": {"searches": ["a"]}}, "dnsConfig.nameservers"),
        ({"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, "dnsConfig.nameservers"),
        ({"dnsConfig": {"nameservers": ["1.1.1.1", "dns.example"]}}, "dnsConfig.nameservers[1]"),
        ({"dnsConfig": {"searches": SEARCHES}}, "dnsConfig.searches"),
        ({"dnsConfig": {"searches": ["a" * 60 + f".{'b' * 60}." + "c" * 60] * 12}}, "dnsConfig.searches"),
        ({"dnsConfig": {"searches": ["ok", "a..b"]}}, "dnsConfig.searches[1]"),
        ({"dnsConfig": {"searches": ["a b"]}}, "dnsConfig.searches[0]"),
        ({"dnsConfig": {"options": [{"name": ""}]}}, "dnsConfig.options[0].name"),
        ({"imagePullSecrets": [{"name": "a"}, {"name": "a/b"}]}, "imagePullSecrets[1].name"),
        ({"priority": 1_000_000_001}, "priority"),
        ({"priority": 2_000_000_000, "priorityClassName": "mine"}, "priority"),
        ({"priority": 2**31, "priorityClassName": "system-cluster-critical"}, "priority"),
        ({"priority": -(2**31) - 1}, "priority"),
        ({"priorityClassName": "Very_High"}, "priorityClassName"),
        ({"shareProcessNamespace": True, "hostPID": True}, "shareProcessNamespace"),
        ({"serviceAccountName": "a b"}, "serviceAccountName"),
        (context(runAsUser=-1), "securityContext.runAsUser"),
        (context(runAsUser=2**31), "securityContext.runAsUser"),
        (context(runAsGroup=2**31), "securityContext.runAsGroup"),
        (context(fsGroup=-1), "securityContext.fsGroup"),
        (context(supplementalGroups=[1, -1]), "securityContext.supplementalGroups[1]"),
        (context(seccompProfile={"type": "Localhost"}), "securityContext.seccompProfile.localhostProfile"),
        (
            context(seccompProfile={"type": "Localhost", "localhostProfile": "../x"}),
            "securityContext.seccompProfile.localhostProfile",
        ),
        (
            context(seccompProfile={"type": "Localhost", "localhostProfile": "/x"}),
            "securityContext.seccompProfile.localhostProfile",
        ),
        (
            context(seccompProfile={"type": "Unconfined", "localhostProfile": "x"}),
            "securityContext.seccompProfile.localhostProfile",
        ),
        (context(appArmorProfile={"type": "Localhost"}), "securityContext.appArmorProfile.localhostProfile"),
        (
            context(appArmorProfile={"type": "Localhost", "localhostProfile": " x"}),
            "securityContext.appArmorProfile.localhostProfile",
        ),
        (
            context(appArmorProfile={"type": "RuntimeDefault", "localhostProfile": "x"}),
            "securityContext.appArmorProfile.localhostProfile",
        ),
        (context(sysctls=[{"name": "", "value": ""}]), "securityContext.sysctls[0].name"),
        (context(sysctls=[{"name": "net..x", "value": ""}]), "securityContext.sysctls[0].name"),
        (context(sysctls=[{"name": "a" * 254, "value": ""}]), "securityContext.sysctls[0].name"),
        (context(sysctls=[SYSCTL, SYSCTL]), "securityContext.sysctls[1].name"),
        ({"containers": []}, "containers"),
    ],
)
def test_a_pod_that_cannot_be(spec: dict[str, Any], path: str) -> None:
    assert refusal(**spec) == f"spec.{path}"


@pytest.mark.parametrize(
    "text", ["a" + "-a" * 126 + "!", "_" * 252 + ".", "a." * 126 + "!", "." * 253, "-" * 200]
)
def test_long_names_are_judged_at_once(text: str) -> None:
    assert refusal(**context(sysctls=[{"name": text, "value": ""}]))
    assert refusal(dnsConfig={"searches": [text + "!"]})
    assert refusal(
        **container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": text, "key": "k"}}}])
    )
