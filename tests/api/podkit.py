"""Pods for the tests of rules: one good pod, and changes to it."""

from typing import Any

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import decode_object
from edgeagent.api.objects.pod import Pod


def manifest(**spec: Any) -> dict[str, Any]:
    """A pod of one container ``main``; ``spec`` is added to its spec."""
    containers = [{"name": "main", "image": "busybox:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": containers, **spec},
    }


def container(**fields: Any) -> dict[str, Any]:
    """The spec of a pod whose container ``main`` has ``fields``."""
    return {"containers": [{"name": "main", "image": "busybox:1", **fields}]}


def pod(**spec: Any) -> Pod:
    """The same, decoded and validated."""
    found = decode_object(manifest(**spec))
    assert isinstance(found, Pod)
    return found


def refusal(**spec: Any) -> str:
    """The path that is named where such a pod is refused."""
    with pytest.raises(InvalidObjectError) as error:
        pod(**spec)
    assert error.value.problem
    assert len(str(error.value)) < 500
    return error.value.path
