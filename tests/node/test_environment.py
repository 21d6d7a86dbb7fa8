"""A container's environment.

https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/
https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/
"""

import asyncio
from typing import Any

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.container import Container
from edgeagent.node.pods.environment import MAX_ENVIRONMENT, expand_command, resolve_environment
from tests.node.podkit import main, make_facts, make_lookup, make_pod


def secret(**data: bytes) -> Secret:
    return Secret(api_version="v1", metadata=ObjectMeta(name="s"), data=data)


SECRETS = {"s": secret(user=b"admin", raw=b"\xff", nul=b"a\0b"), "good": secret(token=b"t")}
MAPS = {"c": {"A": "from-map", "dotted.key": "d", "1st": "one"}}


def resolve(**container: Any) -> dict[str, str]:
    pod = make_pod(container, metadata={"labels": {"app": "shop"}})
    facts = make_facts(pod, host_ip="192.0.2.7", pod_ips=("10.1.1.1",), allocatable={"cpu": 4.0})
    return asyncio.run(resolve_environment(main(pod), facts, make_lookup(MAPS, SECRETS)))


def one(**source: Any) -> dict[str, str]:
    return resolve(env=[{"name": "X", "valueFrom": source}])


def test_values_refer_to_what_stands_before_them() -> None:
    env = [
        {"name": "UNCHANGED", "value": "$(PROTOCOL)://x"},
        {"name": "PROTOCOL", "value": "https"},
        {"name": "ADDRESS", "value": "$(PROTOCOL)://$(HOST)"},
        {"name": "ESCAPED", "value": "$$(PROTOCOL)"},
        {"name": "PROTOCOL", "value": "$(PROTOCOL)2"},
        {"name": "EMPTY"},
    ]
    assert resolve(env=env) == {
        "UNCHANGED": "$(PROTOCOL)://x",
        "PROTOCOL": "https2",
        "ADDRESS": "https://$(HOST)",
        "ESCAPED": "$(PROTOCOL)",
        "EMPTY": "",
    }


def test_values_refer_to_what_came_from_objects_and_fields() -> None:
    found = resolve(
        envFrom=[{"configMapRef": {"name": "c"}}],
        env=[
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "ALL", "value": "$(A) $(dotted.key) $(IP)"},
        ],
    )
    assert found["ALL"] == "from-map d 10.1.1.1"


def test_what_came_from_objects_is_not_expanded() -> None:
    pod = make_pod({"env": [{"name": "B", "value": "$(A)"}], "envFrom": [{"configMapRef": {"name": "c"}}]})
    lookup = make_lookup({"c": {"A": "$(B)", "C": "$$"}})
    found = asyncio.run(resolve_environment(main(pod), make_facts(pod), lookup))
    assert found == {"A": "$(B)", "C": "$$", "B": "$(B)"}


def test_env_goes_before_env_from_and_later_before_earlier() -> None:
    found = resolve(
        envFrom=[
            {"configMapRef": {"name": "c"}},
            {"prefix": "S_", "secretRef": {"name": "good"}},
            {"configMapRef": {"name": "none", "optional": True}},
        ],
        env=[{"name": "A", "value": "own"}],
    )
    assert found == {"A": "own", "dotted.key": "d", "1st": "one", "S_token": "t"}


def test_sources_of_one_variable() -> None:
    assert one(configMapKeyRef={"name": "c", "key": "A"}) == {"X": "from-map"}
    assert one(secretKeyRef={"name": "s", "key": "user"}) == {"X": "admin"}
    assert one(fieldRef={"fieldPath": "metadata.labels['app']"}) == {"X": "shop"}
    assert one(fieldRef={"fieldPath": "status.hostIP"}) == {"X": "192.0.2.7"}
    assert one(resourceFieldRef={"resource": "limits.cpu"}) == {"X": "4"}


def test_what_is_optional_and_missing_is_not_set() -> None:
    assert one(configMapKeyRef={"name": "none", "key": "k", "optional": True}) == {}
    assert one(secretKeyRef={"name": "s", "key": "none", "optional": True}) == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, "configmap 'none' not found"),
        ({"configMapKeyRef": {"name": "c", "key": "k"}}, "couldn't find key k in configmap 'c'"),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, "secret 'none' not found"),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "couldn't find key k in secret 's'"),
        ({"secretKeyRef": {"name": "s", "key": "raw"}}, "key raw of the secret is not text"),
        ({"secretKeyRef": {"name": "s", "key": "nul"}}, "key nul of the secret holds a NUL"),
    ],
)
def test_what_is_missing_is_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(PermanentError, match=message) as error:
        one(**source)
    assert error.value.reason == "CreateContainerConfigError"


@pytest.mark.parametrize("kind", ["configMapRef", "secretRef"])
def test_a_whole_object_that_is_missing_is_named(kind: str) -> None:
    with pytest.raises(PermanentError, match=f"{kind.removesuffix('Ref').lower()} 'none' not found"):
        resolve(envFrom=[{kind: {"name": "none"}}])


def test_an_environment_does_not_grow_without_bound() -> None:
    env = [{"name": "BIG", "value": "x" * 100_000}]
    env += [{"name": f"V{index}", "value": "$(BIG)"} for index in range(MAX_ENVIRONMENT // 100_000)]
    with pytest.raises(PermanentError, match="larger than"):
        resolve(env=env)


def test_command_and_args() -> None:
    container = Container(name="a", image="b", command=["sh", "$(A)"], args=["$(A)$(B)", "$$(A)", "$(C)"])
    assert expand_command(container, {"A": "1", "B": "2"}) == (["sh", "1"], ["12", "$(A)", "$(C)"])
    assert expand_command(Container(name="a", image="b"), {}) == ([], [])


def test_a_command_does_not_grow_without_bound() -> None:
    container = Container(name="a", image="b", args=["$(A)"] * 100)
    with pytest.raises(PermanentError, match="larger than"):
        expand_command(container, {"A": "x" * 100_000})
