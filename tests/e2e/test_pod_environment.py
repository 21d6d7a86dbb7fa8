"""The variables of containers on a real Podman: what they are made of, and what is missing.

https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-container/
https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lone import LoneAgent, config_map, is_running, lone_agent, secret, static_pod
from tests.support.podman import PodmanService
from tests.support.podtable import covers
from tests.support.volumepods import waits_for
from tests.support.waiting import wait_for

MIB = 1024 * 1024
CONFIG_ERROR = "CreateContainerConfigError"


@pytest.fixture(scope="module")
def podman(podman_service: PodmanService) -> Iterator[PodmanService]:
    """For the whole module, since its tests share an agent."""
    podman_service.start()
    yield podman_service
    podman_service.kill_all_containers()


@pytest.fixture(scope="module")
def lone(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneAgent]:
    """An agent that nobody enrolled."""
    with lone_agent(tmp_path_factory.mktemp("lone"), podman) as agent:
        yield agent


def variables(lone: LoneAgent, pod: str, container: str = "main") -> dict[str, str]:
    """The environment that the container's first process was started with, as the kernel tells it."""
    text = lone.exec(pod, "cat", "/proc/1/environ", container=container).stdout
    return dict(line.partition("=")[::2] for line in text.split("\0") if line)


def of_these(found: dict[str, str], *names: str) -> dict[str, str]:
    """What is set of these names."""
    return {name: found[name] for name in names if name in found}


def from_field(name: str, path: str, **selector: str) -> dict[str, Any]:
    """A variable that holds a field of its pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path, **selector}}}


def from_resource(name: str, resource: str, **selector: str) -> dict[str, Any]:
    """A variable that holds an amount of a container."""
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, **selector}}}


def from_key(name: str, kind: str, of: str, key: str, **selector: bool) -> dict[str, Any]:
    """A variable that holds the value behind a key; ``kind`` is ``configMap`` or ``secret``."""
    return {"name": name, "valueFrom": {f"{kind}KeyRef": {"name": of, "key": key, **selector}}}


def waiting_message(pod: dict[str, Any]) -> str:
    """Why the first container of the pod waits."""
    return str(pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"])


# Values


@covers("Container.env", "EnvVar.name", "EnvVar.value")
def test_values_are_as_written_but_for_references_to_what_stands_before(lone: LoneAgent) -> None:
    env = [
        {"name": "EARLY", "value": "$(PROTOCOL)://x"},
        {"name": "PROTOCOL", "value": "https"},
        {"name": "HOST", "value": "edge.example"},
        {"name": "ADDRESS", "value": "$(PROTOCOL)://$(HOST)/"},
        {"name": "ESCAPED", "value": "$$(PROTOCOL) $$5 $$$(PROTOCOL)"},
        {"name": "SHELL_WORDS", "value": "$PROTOCOL ${PROTOCOL} $(no such"},
        {"name": "TEXT", "value": " a=b 'c' \"d\"\nzwölf "},
        {"name": "EMPTY"},
        {"name": "a.dotted-name", "value": "taken"},
        {"name": "TWICE", "value": "first"},
        {"name": "TWICE", "value": "second"},
    ]
    with lone.running(static_pod("values", container={"env": env})):
        found = variables(lone, "values")
        assert of_these(found, *(str(one["name"]) for one in env)) == {
            "EARLY": "$(PROTOCOL)://x",
            "PROTOCOL": "https",
            "HOST": "edge.example",
            "ADDRESS": "https://edge.example/",
            "ESCAPED": "$(PROTOCOL) $5 $https",
            "SHELL_WORDS": "$PROTOCOL ${PROTOCOL} $(no such",
            "TEXT": " a=b 'c' \"d\"\nzwölf ",
            "EMPTY": "",
            "a.dotted-name": "taken",
            "TWICE": "second",
        }
        assert lone.exec("values", "sh", "-c", "echo $HOST").stdout == "edge.example\n", "what is run in it"


def test_a_name_that_can_be_no_variables_is_refused_by_its_place(lone: LoneAgent) -> None:
    equals = {"name": "A=B", "value": "c"}
    lone.refuses(static_pod("equals", container={"env": [equals]}), "spec.containers[0].env[0].name")
    both = {**from_field("A", "metadata.name"), "value": "b"}
    lone.refuses(static_pod("both", container={"env": [both]}), "spec.containers[0].env[0].valueFrom")


# ConfigMaps and Secrets


@covers(
    "Container.envFrom",
    "EnvFromSource.prefix",
    "EnvFromSource.configMapRef",
    "EnvFromSource.secretRef",
    "SourceReference.name",
    "SourceReference.optional",
)
def test_all_keys_of_an_object_are_variables(lone: LoneAgent) -> None:
    sources: list[dict[str, Any]] = [
        {"configMapRef": {"name": "first"}},
        {"configMapRef": {"name": "second"}},
        {"prefix": "S_", "secretRef": {"name": "login"}},
        {"prefix": "NONE_", "configMapRef": {"name": "nowhere", "optional": True}},
        {"secretRef": {"name": "nowhere", "optional": True}},
    ]
    env = [{"name": "OWN", "value": "from env"}, {"name": "JOINED", "value": "$(COLOUR)/$(S_USER)"}]
    first = config_map(
        "first",
        **{"COLOUR": "red", "SIZE": "3", "OWN": "from map", "RAW": "$(SIZE)", "a.b-c": "d", "1st": "e"},
    )
    others = (first, config_map("second", COLOUR="blue"), secret("login", USER="admin", WORD="hush"))
    with lone.running(static_pod("keys", container={"envFrom": sources, "env": env}), *others):
        found = variables(lone, "keys")
        wanted = {
            "COLOUR": "blue",
            "SIZE": "3",
            "OWN": "from env",
            "RAW": "$(SIZE)",
            "a.b-c": "d",
            "1st": "e",
            "S_USER": "admin",
            "S_WORD": "hush",
            "JOINED": "blue/admin",
        }
        assert of_these(found, *wanted) == wanted
        assert not {"USER", "WORD"} & found.keys()
        assert not [name for name in found if name.startswith("NONE_")]


@covers(
    "EnvVar.valueFrom",
    "EnvVarSource.configMapKeyRef",
    "EnvVarSource.secretKeyRef",
    "KeySelector.name",
    "KeySelector.key",
    "KeySelector.optional",
)
def test_one_key_of_an_object_is_a_variable(lone: LoneAgent) -> None:
    env = [
        from_key("COLOUR", "configMap", "paint", "colour"),
        from_key("WORD", "secret", "login", "word"),
        from_key("NO_KEY", "configMap", "paint", "taste", optional=True),
        from_key("NO_MAP", "configMap", "nowhere", "colour", optional=True),
        from_key("NO_SECRET", "secret", "nowhere", "word", optional=True),
        {"name": "JOINED", "value": "$(COLOUR) $(WORD) $(NO_KEY)"},
    ]
    others = (config_map("paint", colour="blue", other="x"), secret("login", word="hush"))
    with lone.running(static_pod("key", container={"env": env}), *others):
        found = variables(lone, "key")
        assert of_these(found, *(str(one["name"]) for one in env)) == {
            "COLOUR": "blue",
            "WORD": "hush",
            "JOINED": "blue hush $(NO_KEY)",
        }
        assert not {"colour", "other", "word"} & found.keys()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"envFrom": [{"configMapRef": {"name": "late"}}]}, ["configmap", "late"]),
        ({"envFrom": [{"secretRef": {"name": "late"}}]}, ["secret", "late"]),
        ({"env": [from_key("A", "configMap", "late", "COLOUR")]}, ["configmap", "late"]),
        ({"env": [from_key("A", "secret", "late", "COLOUR", optional=False)]}, ["secret", "late"]),
    ],
    ids=["all of a map", "all of a secret", "a key of a map", "a key of a secret"],
)
def test_what_is_missing_is_named_and_waited_for(
    lone: LoneAgent, fields: dict[str, Any], words: list[str]
) -> None:
    with lone.running(static_pod("early", container=fields), until=waits_for(CONFIG_ERROR)) as seen:
        assert all(word in waiting_message(seen) for word in words)
        assert seen["status"]["phase"] == "Pending"
        kind = config_map if words[0] == "configmap" else secret
        lone.write("late", kind("late", COLOUR="blue"))
        lone.wait_status("early", is_running)
        assert variables(lone, "early").get("COLOUR" if "envFrom" in fields else "A") == "blue"
    lone.remove("late")


def test_a_key_that_is_missing_is_named_and_waited_for(lone: LoneAgent) -> None:
    env = [from_key("A", "configMap", "partial", "colour"), from_key("B", "secret", "shy", "word")]
    lone.write("objects", [config_map("partial", other="x"), secret("shy", word="hush")])
    with lone.running(static_pod("lacking", container={"env": env}), until=waits_for(CONFIG_ERROR)) as seen:
        message = waiting_message(seen)
        assert "colour" in message
        assert "partial" in message
        lone.write("objects", [config_map("partial", colour="blue"), secret("shy", other="x")])
        lone.wait_status(
            "lacking",
            lambda status: waits_for(CONFIG_ERROR)(status) and "shy" in str(status),
            what="the other",
        )
        lone.write("objects", [config_map("partial", colour="blue"), secret("shy", word="hush")])
        lone.wait_status("lacking", is_running)
        assert of_these(variables(lone, "lacking"), "A", "B") == {"A": "blue", "B": "hush"}
    lone.remove("objects")


def test_a_changed_object_leaves_the_variables_of_what_runs(lone: LoneAgent) -> None:
    volumes = [{"name": "files", "configMap": {"name": "moving"}}]
    container = {
        "envFrom": [{"configMapRef": {"name": "moving"}}],
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
    }
    lone.write("moving", config_map("moving", COLOUR="red"))
    with lone.running(static_pod("steadfast", container=container, volumes=volumes)):
        before = lone.container("steadfast")
        lone.write("moving", config_map("moving", COLOUR="blue"))
        wait_for(
            lambda: lone.exec("steadfast", "cat", "/files/COLOUR").stdout == "blue", 20, "the file to follow"
        )
        assert lone.container("steadfast") == before
        assert variables(lone, "steadfast")["COLOUR"] == "red"
    lone.remove("moving")


# The pod itself


@covers("EnvVarSource.fieldRef", "ObjectFieldSelector.fieldPath", "ObjectFieldSelector.apiVersion")
def test_fields_of_the_pod_are_variables(lone: LoneAgent) -> None:
    env = [
        from_field("NAME", "metadata.name", apiVersion="v1"),
        from_field("NAMESPACE", "metadata.namespace"),
        from_field("UID_", "metadata.uid"),
        from_field("TIER", "metadata.labels['example.org/tier']"),
        from_field("NOTE", "metadata.annotations['note']"),
        from_field("NO_LABEL", "metadata.labels['none']"),
        from_field("NODE", "spec.nodeName"),
        from_field("ACCOUNT", "spec.serviceAccountName"),
        from_field("HOST_IP", "status.hostIP"),
        from_field("HOST_IPS", "status.hostIPs"),
        from_field("POD_IP", "status.podIP"),
        from_field("POD_IPS", "status.podIPs"),
        {"name": "JOINED", "value": "$(NAMESPACE)/$(NAME)"},
    ]
    pod = static_pod(
        "mirror",
        namespace="shop",
        labels={"example.org/tier": "edge"},
        annotations={"note": "two words"},
        container={"env": env},
        hostNetwork=False,
        serviceAccountName="robot",
    )
    with lone.running(pod) as seen:
        full, status = lone.full_name("mirror"), seen["status"]
        assert status["podIP"] != status["hostIP"]
        assert of_these(variables(lone, "mirror"), *(str(one["name"]) for one in env)) == {
            "NAME": full,
            "NAMESPACE": "shop",
            "UID_": seen["metadata"]["uid"],
            "TIER": "edge",
            "NOTE": "two words",
            "NO_LABEL": "",
            "NODE": lone.node,
            "ACCOUNT": "robot",
            "HOST_IP": status["hostIP"],
            "HOST_IPS": status["hostIP"],
            "POD_IP": status["podIP"],
            "POD_IPS": ",".join(one["ip"] for one in status["podIPs"]),
            "JOINED": f"shop/{full}",
        }


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        (from_field("A", "spec.restartPolicy"), "fieldRef.fieldPath"),
        (from_field("A", "metadata.labels"), "fieldRef.fieldPath"),
        (from_field("A", "metadata.name", apiVersion="v2"), "fieldRef.apiVersion"),
        (from_resource("A", "limits.gpu"), "resourceFieldRef.resource"),
        (from_resource("A", "limits.cpu", divisor="3"), "resourceFieldRef.divisor"),
    ],
)
def test_what_is_no_field_is_refused_by_its_place(
    lone: LoneAgent, variable: dict[str, Any], place: str
) -> None:
    pod = static_pod("nofield", container={"env": [variable]})
    lone.refuses(pod, f"spec.containers[0].env[0].valueFrom.{place}")


@covers(
    "EnvVarSource.resourceFieldRef",
    "ResourceFieldSelector.resource",
    "ResourceFieldSelector.containerName",
    "ResourceFieldSelector.divisor",
)
def test_amounts_of_containers_are_variables(lone: LoneAgent) -> None:
    env = [
        from_resource("CPU", "limits.cpu"),
        from_resource("CPU_MILLI", "limits.cpu", divisor="1m"),
        from_resource("CPU_ASKED", "requests.cpu", divisor="1m"),
        from_resource("MEMORY", "limits.memory"),
        from_resource("MEMORY_MI", "limits.memory", divisor="1Mi"),
        from_resource("MEMORY_M", "limits.memory", divisor="1M"),
        from_resource("MEMORY_GI", "limits.memory", divisor="1Gi"),
        from_resource("MEMORY_ASKED", "requests.memory", divisor="1Mi"),
        from_resource("STORAGE_MI", "limits.ephemeral-storage", divisor="1Mi"),
        from_resource("STORAGE_ASKED", "requests.ephemeral-storage", divisor="1Ki"),
        from_resource("THEIRS", "limits.memory", containerName="c1", divisor="1Mi"),
    ]
    resources = {
        "limits": {"cpu": "1250m", "memory": "64Mi", "ephemeral-storage": "100Mi"},
        "requests": {"cpu": "50m", "ephemeral-storage": "4Mi"},
    }
    pod = static_pod("amounts", ["sleep", "3600"], ["sleep", "3600"], container={"env": env})
    main, other = pod["spec"]["containers"]
    main["resources"], other["resources"] = resources, {"limits": {"memory": "32Mi"}}
    with lone.running(pod):
        assert of_these(variables(lone, "amounts"), *(str(one["name"]) for one in env)) == {
            "CPU": "2",
            "CPU_MILLI": "1250",
            "CPU_ASKED": "50",
            "MEMORY": str(64 * MIB),
            "MEMORY_MI": "64",
            "MEMORY_M": "68",
            "MEMORY_GI": "1",
            "MEMORY_ASKED": "64",
            "STORAGE_MI": "100",
            "STORAGE_ASKED": "4096",
            "THEIRS": "32",
        }
        unlimited = variables(lone, "amounts", "c1")
        cores = os.cpu_count()
        assert (unlimited["CPU"], unlimited["CPU_ASKED"]) == (str(cores), "0")
        assert unlimited["MEMORY_MI"] == unlimited["THEIRS"] == "32"
        disk = os.statvfs(lone.state_dir)
        assert int(unlimited["STORAGE_MI"]) == -(-disk.f_blocks * disk.f_frsize // MIB)
        assert unlimited["STORAGE_ASKED"] == "0"


def test_amounts_of_a_container_that_is_not_there(lone: LoneAgent) -> None:
    env = [from_resource("A", "limits.cpu", containerName="nobody")]
    with lone.running(static_pod("astray", container={"env": env}), until=waits_for(CONFIG_ERROR)) as seen:
        assert "nobody" in waiting_message(seen)
