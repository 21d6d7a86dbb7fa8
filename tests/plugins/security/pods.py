"""Pods for tests of rules, from data as manifests have it."""

from collections.abc import Mapping
from typing import Any

from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.pod import Pod

Fields = dict[str, Any]

RESTRICTED_CONTAINER: Fields = {
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
}
RESTRICTED_POD: Fields = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
}


def pod(*containers: Fields, metadata: Mapping[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod of containers ``a``, ``b``, …; a list under ``initContainers`` is named ``i0``, ``i1``, …"""
    named = [
        {"name": "abcdefgh"[index], "image": "registry.example.com/app:1", **one}
        for index, one in enumerate(containers or ({},))
    ]
    inits = [
        {"name": f"i{index}", "image": "registry.example.com/init:1", **one}
        for index, one in enumerate(spec.pop("initContainers", []))
    ]
    return convert(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", **(metadata or {})},
            "spec": {"containers": named, "initContainers": inits, **spec},
        },
        Pod,
    )


def restricted(*containers: Fields, metadata: Mapping[str, Any] | None = None, **spec: Any) -> Pod:
    """A pod that ``restricted`` admits, but for what is given, which goes before what it asks for."""
    hardened = [
        {
            **one,
            "securityContext": {
                **RESTRICTED_CONTAINER["securityContext"],
                **one.get("securityContext", {}),
            },
        }
        for one in containers or ({},)
    ]
    context = {**RESTRICTED_POD["securityContext"], **spec.pop("securityContext", {})}
    return pod(*hardened, metadata=metadata, securityContext=context, **spec)


def own(**context: Any) -> Fields:
    """A container with this security context."""
    return {"securityContext": context}
