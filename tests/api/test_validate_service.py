"""What a Service and an EndpointSlice may say: the rules of Kubernetes' validation."""

from typing import Any

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_object

PORT = {"port": 80}


def service(*ports: dict[str, Any], name: str = "web", **spec: Any) -> dict[str, Any]:
    """A manifest."""
    listed = {"ports": list(ports)} if ports else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {**listed, **spec},
    }


@pytest.mark.parametrize(
    "manifest",
    [
        service(PORT),
        service(
            PORT, selector={"app.kubernetes.io/name": "web"}, clusterIP="10.43.0.9", clusterIPs=["10.43.0.9"]
        ),
        service(PORT, clusterIP="None"),
        service(clusterIP="None", selector={"app": "web"}),
        service(
            {"port": 80, "name": "a", "targetPort": "http"}, {"port": 80, "name": "b", "protocol": "UDP"}
        ),
        service({"port": 80, "nodePort": 30080}, type="NodePort", externalTrafficPolicy="Local"),
        service(type="ExternalName", externalName="db.example.org."),
        service(PORT, sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}}),
        service(PORT, ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv4", "IPv6"]),
    ],
)
def test_good_ones(manifest: dict[str, Any]) -> None:
    decode_object(manifest)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (service(PORT, name="a.b"), "metadata.name: 'a.b' must be"),
        (service(), "spec.ports: required field is missing"),
        (service(PORT, type="LoadBalancer"), "spec.type: LoadBalancer is not supported"),
        (service(PORT, externalIPs=["192.0.2.1"]), "spec.externalIPs: not supported"),
        (service(PORT, type="ExternalName"), "spec.externalName: required field is missing"),
        (service(PORT, externalName="x.org"), "spec.externalName: is for type ExternalName only"),
        (service(PORT, clusterIP="nonsense"), "spec.clusterIP: 'nonsense' is not an IP address"),
        (service(PORT, clusterIPs=["10.0.0.1", "10.0.0.2"]), "spec.clusterIPs: at most one address of each"),
        (service(PORT, clusterIP="None", type="NodePort"), "spec.clusterIP: must not be None for NodePort"),
        (service({"port": 0}), r"spec.ports\[0\].port: must be between 1 and 65535"),
        (service({"port": 80, "targetPort": "Nope!"}), r"spec.ports\[0\].targetPort: 'Nope!' must be"),
        (service(PORT, {"port": 81, "name": "b"}), r"spec.ports\[0\].name: required where there is more"),
        (
            service({"port": 80, "name": "a"}, {"port": 80, "name": "b"}),
            r"spec.ports\[1\].port: '80/TCP' is there twice",
        ),
        (service({"port": 80, "nodePort": 30080}), r"spec.ports\[0\].nodePort: is for type NodePort only"),
        (
            service(PORT, sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}}),
            "is for sessionAffinity ClientIP only",
        ),
        (
            service(
                PORT, sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}
            ),
            "timeoutSeconds: must be between 1 and 86400",
        ),
        (service(PORT, healthCheckNodePort=1), "spec.healthCheckNodePort: unknown field"),
    ],
)
def test_what_is_refused_is_named(manifest: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words):
        decode_object(manifest)


def endpoint_slice(*addresses: str, **fields: Any) -> dict[str, Any]:
    """A manifest."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": list(addresses)}],
        "ports": [PORT],
        **fields,
    }


def test_a_slices_addresses_are_of_its_family() -> None:
    decode_object(endpoint_slice("192.0.2.1"))
    with pytest.raises(InvalidObjectError, match=r"endpoints\[0\].addresses\[0\]: fd00::1 is not of"):
        decode_object(endpoint_slice("fd00::1"))
    with pytest.raises(InvalidObjectError, match=r"endpoints\[0\].addresses: required"):
        decode_object(endpoint_slice())
    with pytest.raises(InvalidObjectError, match=r"ports\[1\].name: '/TCP' is there twice"):
        decode_object(endpoint_slice("192.0.2.1", ports=[PORT, {"port": 81}]))
