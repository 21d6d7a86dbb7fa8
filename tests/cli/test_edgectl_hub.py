"""``edgectl`` and the real hub behind a real broker: messages, columns, exit codes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from edgeagent.cli.edgectl import main
from tests.cli.running import HELLO, Ctl
from tests.support.broker import MOSQUITTO
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster as ``edgehub`` makes it: Mosquitto with TLS and ACLs, the hub, and one node that is away."""
    if not Path(MOSQUITTO).exists():
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")
    port = free_port()
    hub_dir = tmp_path / "hub"

    def edgehub(*words: object) -> list[str]:
        return [sys.executable, "-m", "edgeagent.cli.edgehub", *map(str, words), "--dir", str(hub_dir)]

    address = f"127.0.0.1:{port}"
    init = edgehub("init", "--cluster", "test", "--broker", address, "--listen", address)
    subprocess.run(init, check=True, capture_output=True, timeout=60)
    add = edgehub("node", "add", "n1", "--output", tmp_path / "n1.join")
    subprocess.run(add, check=True, capture_output=True, timeout=60)
    configuration = hub_dir / "mosquitto" / "mosquitto.conf"
    with (
        Process([MOSQUITTO, "-c", str(configuration)], log=tmp_path / "mosquitto.log") as broker,
        Process(edgehub("run"), log=tmp_path / "hub.log"),
    ):
        broker.wait_until(lambda: port_answers(port), what="accepting connections")
        monkeypatch.setenv("EDGECTL_CONFIG", str(hub_dir / "operator.json"))
        wait_for(lambda: main(["get", "nodes", "--request-timeout", "1s"]) == 0, 20, "the hub to answer")
        yield tmp_path


def test_the_life_of_objects(cluster: Path, ctl: Ctl) -> None:
    ctl("version")  # drops what the fixture printed
    done = ctl("get", "pods")
    assert (done.code, done.out, done.err) == (0, "", "No resources found in default namespace.\n")
    assert ctl("get", "pods", "-A").err == "No resources found\n"
    assert ctl("get", "nodes").out.splitlines()[0].split() == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]

    file = cluster / "hello.yaml"
    file.write_text(HELLO)
    done = ctl("apply", "-f", file, "--dry-run=server")
    assert done.out == "configmap/settings created (server dry run)\npod/hello created (server dry run)\n"
    assert ctl("apply", "-f", file).out == "configmap/settings created\npod/hello created\n"
    assert ctl("apply", "-f", file).out == "configmap/settings unchanged\npod/hello unchanged\n"
    file.write_text(HELLO.replace("mode: fast", "mode: slow"))
    assert ctl("apply", "-f", file).out == "configmap/settings configured\npod/hello unchanged\n"

    done = ctl("get", "pods,cm", "-l", "app=hello")
    assert [line.split()[:3] for line in done.out.splitlines()] == [
        ["NAME", "READY", "STATUS"],
        ["pod/hello", "0/1", "Pending"],
        [],
        ["NAME", "DATA", "AGE"],
        ["configmap/settings", "1", done.out.split()[-1]],
    ]
    assert ctl("get", "po/hello", "-o", "wide", "--no-headers").out.split()[-1] == "n1"
    one = yaml.safe_load(ctl("get", "pod", "hello", "-o", "yaml").out)
    assert (one["kind"], one["metadata"]["name"], one["spec"]["nodeName"]) == ("Pod", "hello", "n1")
    assert [item["kind"] for item in json.loads(ctl("get", "po,cm", "-o", "json").out)["items"]] == [
        "Pod",
        "ConfigMap",
    ]
    assert ctl("get", "pods", "-l", "app=other").err == "No resources found in default namespace.\n"

    file.write_text(yaml.safe_dump(one))
    assert ctl("apply", "-f", file).out == "pod/hello unchanged\n"

    done = ctl("describe", "pod", "hello")
    assert done.code == 0
    assert re.search(r"^Node: +n1/$", done.out, re.MULTILINE)
    assert ctl("describe", "node/n1").out.startswith("Name:")

    done = ctl("get", "pod", "hello", "gone")
    assert done.code == 1
    assert done.out.splitlines()[1].startswith("hello ")
    assert done.err == 'Error from server (NotFound): pods "gone" not found\n'
    assert ctl("describe", "cm", "gone").err == 'Error from server (NotFound): configmaps "gone" not found\n'
    assert ctl("logs", "hello").err.startswith("Error from server (NodeOffline): node n1 is not connected")

    file.write_text(HELLO)
    done = ctl("delete", "-f", file, "--wait=false")
    assert (done.code, done.out) == (0, 'configmap "settings" deleted\npod "hello" deleted\n')
    assert ctl("get", "pods", "--no-headers").out.split()[2] == "Terminating"
    assert ctl("delete", "pod", "hello", "--force").code == 0
    done = ctl("delete", "pod", "hello")
    assert (done.code, done.err) == (1, 'Error from server (NotFound): pods "hello" not found\n')
    assert ctl("delete", "-f", file, "--ignore-not-found").code == 0


def test_the_hubs_refusal_names_the_document(cluster: Path, ctl: Ctl) -> None:
    ctl("version")
    file = cluster / "hello.yaml"
    file.write_text(HELLO.replace("nodeName: n1", "nodeName: n9"))
    done = ctl("apply", "-f", file)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error from server (Invalid): ")
    assert done.err.endswith(f"(from {file}: document 2)\n")
    assert ctl("get", "cm").err == "No resources found in default namespace.\n"


def test_delete_of_many(cluster: Path, ctl: Ctl) -> None:
    ctl("version")
    file = cluster / "maps.yaml"
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, labels: {app: NAME}}\n"
    file.write_text("---\n".join(one.replace("NAME", name) for name in "abc"))
    assert ctl("apply", "-f", file).out.count("created") == 3
    assert ctl("delete", "cm", "-l", "app=a").out == 'configmap "a" deleted\n'
    assert ctl("delete", "cm", "--all").out == 'configmap "b" deleted\nconfigmap "c" deleted\n'
    assert ctl("delete", "cm", "--all").err == "No resources found\n"
