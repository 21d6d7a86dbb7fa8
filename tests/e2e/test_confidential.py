"""A Secret's value is nowhere but in its containers: not on the broker, a disk or a screen, nor in a log."""

import base64
import json
import re
import secrets
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, container, pod
from tests.support.planted import Planted, packings
from tests.support.podman import PodmanService
from tests.support.proc import Process
from tests.support.sealing import cannot_seal
from tests.support.waiting import wait_for

VALUE = "hunter2-very-secret-value"


def listener(cluster: Cluster) -> Process:
    """Everything that the broker carries, as somebody reads it who may read all."""
    files = {"--cafile": "ca.crt", "--cert": "hub.crt", "--key": "hub.key"}
    options = [part for name, file in files.items() for part in (name, str(cluster.hub_dir / file))]
    return Process(
        [
            "mosquitto_sub",
            "-V",
            "5",
            "-h",
            "127.0.0.1",
            "-p",
            str(cluster.port),
            *options,
            "-t",
            "edge/#",
            "-F",
            "%t %x",
        ],
        log=cluster.directory / "carried.log",
    )


def test_a_secret_is_read_by_its_node_and_by_nobody_else(podman: PodmanService, tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", podman) as cluster, listener(cluster) as carried:
        node = cluster.add_node("node1")
        node.start()
        carried.wait_until(lambda: b"/status " in carried.log.read_bytes(), what="hearing what is carried")
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "login", "namespace": "default"},
            "stringData": {"password": VALUE},
        }
        reads = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}
        command = ["sh", "-c", 'echo "it is $PASSWORD"; exec sleep 3600']
        cluster.apply(secret, pod("reader", "node1", [container("main", command, env=[reads])]))
        cluster.wait_phase("reader", "Running")
        wait_for(lambda: VALUE in cluster.ctl("logs", "reader").stdout, 10, "the pod to print its password")
        found = cluster.get("secret", "login")
        assert base64.b64decode(found["data"]["password"]) == b"<redacted: %d bytes>" % len(VALUE)

        payloads = [
            bytes.fromhex(line.split()[1].decode())
            for line in carried.log.read_bytes().splitlines()
            if len(line.split()) == 2
        ]
        assert len(payloads) > 10
        forms = [VALUE.encode(), base64.b64encode(VALUE.encode())]
        assert not [payload for payload in payloads if any(form in payload for form in forms)]
        for path in node.directory.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert not any(form in data for form in forms), path
        assert VALUE not in json.dumps(node.pods())
        assert VALUE not in cluster.ctl("describe", "pod", "reader").stdout


@pytest.mark.parametrize("number", range(7))
def test_a_planted_value_is_found_however_it_is_packed(number: int) -> None:
    value = b"planted-value-0123456789"
    packed = list(packings(value))
    assert len(packed) == 7
    assert Planted({"it": value, "other": b"another-value-9876543210"}).found_in(packed[number]) == {"it"}


def test_planted_values_are_found_nowhere_but_in_their_containers(
    podman: PodmanService, tmp_path: Path
) -> None:
    names = ("mounted", "variable", "all", "unused", "zero", "replaced", "refused")
    values = {name: f"{name}-{secrets.token_hex(12)}" for name in names}
    planted = Planted({name: value.encode() for name, value in values.items()})

    def login(name: str = "login", **data: str) -> dict[str, object]:
        meta = {"name": name, "namespace": "default"}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}

    def reads(key: str, name: str = "VALUE") -> dict[str, object]:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": "login", "key": key}}}

    mount = {"name": "login", "mountPath": "/login"}
    volume = {"name": "login", "secret": {"secretName": "login", "items": [{"key": "mounted", "path": "it"}]}}
    # Neither of the two prints anything: what a program prints is in its log, and in the event of its probe.
    probe = {
        "exec": {"command": ["sh", "-c", 'test "$VALUE" = "$(cat /login/it)"']},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    waits = ["sh", "-c", "exec sleep 3600"]
    printed: list[str] = []
    with Cluster(tmp_path / "cluster", podman) as cluster, listener(cluster) as carried:
        node = cluster.add_node("node1")
        node.start()
        carried.wait_until(lambda: b"/status " in carried.log.read_bytes(), what="hearing what is carried")

        def run(*arguments: str) -> str:
            done = cluster.ctl(*arguments, check=False)
            printed.append(done.stdout + done.stderr)
            return printed[-1]

        data = {name: values[name] for name in ("mounted", "variable", "unused", "replaced")}
        cluster.apply(login(**data, zero=values["zero"] + "\0"), login("whole", ALL=values["all"]))
        pods = [
            pod(
                "reader", "node1",
                [container("main", waits, env=[reads("variable")], readinessProbe=probe, volumeMounts=[mount],
                           envFrom=[{"secretRef": {"name": "whole"}}])],
                volumes=[volume],
            ),
            pod("wrong", "node1", [container("main", waits, env=[reads("variable"), reads("none", "B")])]),
            pod("zero", "node1", [container("main", waits, env=[reads("zero")])]),
        ]  # fmt: skip
        cluster.apply(*pods)
        cluster.wait_phase("reader", "Running")
        wait_for(lambda: "Unhealthy" in run("get", "events"), 20, "the probe to fail")
        for name in ("wrong", "zero"):
            wait_for(
                lambda name=name: "CreateContainerConfigError" in run("get", "pod", name),  # type: ignore[misc]
                20, f"{name} to be refused",
            )  # fmt: skip
        data.pop("replaced")
        cluster.apply(login(**data, zero=values["zero"] + "\0"))
        broken = login()
        broken["stringData"] = {"password": [values["refused"]]}
        printed.append(cluster.apply(broken, check=False).stderr)
        assert "stringData.password: expected str, got array" in printed[-1]
        for arguments in (
            ["get", "secrets", "-A"], ["get", "secret", "login", "-o", "yaml"],
            ["get", "secrets", "-o", "json"],
            ["describe", "secret", "login"], ["describe", "pod", "reader"], ["describe", "pod", "wrong"],
            ["describe", "node", "node1"], ["get", "pods", "-o", "yaml"], ["get", "events", "-o", "json"],
            ["audit"], ["audit", "node1"], ["logs", "reader"],
        ):  # fmt: skip
            run(*arguments)
        for arguments in (["get", "pods", "-A", "-o", "json"], ["get", "events"], ["status"], ["audit"]):
            done = node.run(*arguments, check=False)
            printed.append(done.stdout + done.stderr)
        # What get printed is refused, and nothing is lost by it.
        shown = cluster.get("secret", "login")
        assert "mark of a redacted value" in cluster.apply(shown, check=False).stderr
        node.process.terminate()
        node.start()
        cluster.hub.terminate()
        cluster.hub.start()
        wait_for(lambda: "Running" in run("get", "pod", "reader"), 30, "the pod to be seen again")
        limits = Path(f"/proc/{node.process.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits)
        payloads = [
            line.split()[1] for line in carried.log.read_bytes().splitlines() if len(line.split()) == 2
        ]

    everything = "".join(printed)
    assert planted.found_in(everything.encode()) == set()
    assert len(payloads) > 10
    for payload in payloads:
        assert planted.found_in(bytes.fromhex(payload.decode())) == set()
    # All programs have ended, and the broker has written its retained messages down. The containers run on.
    run_dir = podman.directory / "run-node1"
    assert (cluster.hub_dir / "mosquitto" / "data" / "mosquitto.db").exists()
    (cluster.directory / "apply.json").unlink()  # what edgectl was given
    assert planted.found_below(cluster.directory, run_dir) == {}
    # In memory they are: this is how it is known that they were looked for in the right place.
    [mounted] = {path.resolve() for path in run_dir.rglob("it")}
    assert mounted.read_text() == values["mounted"]
    # What a variable holds is in the container's configuration, where Podman keeps it: the one exception.
    exceptions = planted.found_below(podman.directory)
    assert {name for found in exceptions.values() for name in found} <= {"variable", "all"}
    assert exceptions
    for path in exceptions:
        # While a command of a probe runs, its configuration is there as well.
        known = ("config.json", "artifacts", "db.sql", "db.sql-wal", "bolt_state.db")
        assert path.name in known or path.name.startswith("exec-process-"), path


def test_a_node_with_sealed_keys_has_none_in_clear_on_its_disk(podman: PodmanService, tmp_path: Path) -> None:
    if why := cannot_seal():
        pytest.skip(why)
    with Cluster(tmp_path / "cluster", podman) as cluster:
        node = cluster.prepare_node("node1")
        token = cluster.token("--approval", "automatic")
        words = str(token["command"]).split()[1:]
        node.run(*words, *([] if "--name" in words else ["--name", "node1"]), "--seal-keys", "host")
        identity = node.directory / "state" / "identity"
        assert {"node.key.cred", "sealing.key.cred"} < {path.name for path in identity.iterdir()}
        for again in (False, True):
            node.start()
            meta = {"name": "login", "namespace": "default"}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta}
            reads = {"name": "VALUE", "valueFrom": {"secretKeyRef": {"name": "login", "key": "v"}}}
            name = f"reader-{again}".lower()
            command = ["sh", "-c", 'test "$VALUE" = planted && exec sleep 3600']
            reader = pod(name, "node1", [container("main", command, env=[reads])])
            cluster.apply({**secret, "stringData": {"v": "planted"}}, reader)
            cluster.wait_phase(name, "Running")
            node.process.terminate()
        opened = podman.directory / "run-node1" / "identity"
        keys = Planted({path.name: path.read_bytes() for path in opened.rglob("*.key")})
        assert {path.name for path in opened.rglob("*.key")} == {"node.key", "sealing.key"}
        assert not [path for path in identity.rglob("*") if path.suffix == ".key"]
        assert keys.found_below(node.directory) == {}
        assert keys.found_below(cluster.hub_dir) == {}
        # With seals of another machine it is not to be reached, says why, and runs what it ran.
        for name in ("node.key.cred", "sealing.key.cred"):
            (identity / name).write_bytes(b"sealed elsewhere")
        node.start()
        wait_for(
            lambda: node.condition("Connected").get("reason") == "BadIdentity", 20, "the node to know why"
        )
        assert "enroll --force" in node.condition("Connected")["message"]
        events = node.run("get", "events", check=False).stdout
        assert "IdentityNotOpened" in events
        wait_for(
            lambda: node.pod("reader-false").get("status", {}).get("phase") == "Running",
            30,
            "the pod to run on",
        )
