"""``edgectl`` without a hub: help, usage errors, completion, files, and a hub that is not there."""

import argparse
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import edgeagent
from edgeagent.cli.arguments import parse_duration, parse_selector
from edgeagent.cli.ctl.parser import OUTPUTS
from edgeagent.cli.ctl.parser import build_parser as ctl_parser
from edgeagent.cli.local.parser import build_parser as agent_parser
from edgeagent.cli.output import FORMATS
from tests.cli.running import HELLO, Ctl
from tests.cli.scripted import operator, write_operator
from tests.support.proc import free_port


@pytest.mark.parametrize(
    "words", [["--help"], ["get", "--help"], ["apply", "--help"], [], ["version"], ["get"], ["get", "x"]]
)
def test_help_and_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom edgeagent.cli.edgectl import main\n"
        f"main({words!r})\n"
        "heavy = {'yaml', 'paho', 'cryptography'} & {name.partition('.')[0] for name in sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_has_examples_and_all_commands(ctl: Ctl) -> None:
    top = ctl("--help")
    assert top.code == 0
    for command in (
        "apply", "get", "describe", "delete", "logs", "exec", "port-forward", "top", "events", "version",
        "completion",
    ):  # fmt: skip
        assert command in top.out
        told = ctl(command, "--help")
        assert told.code == 0
        assert "examples:" in told.out or command == "version"


@pytest.mark.parametrize("build", [ctl_parser, agent_parser])
def test_a_switch_may_have_its_value_as_kubectl_writes_it(
    build: Callable[[], argparse.ArgumentParser], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["logs", "web", "--all-containers=true", "--prefix=True", "--follow", "--follow=false", "-p=true"]
    options = build().parse_args(words)
    assert (options.all_containers, options.prefix, options.follow, options.previous) == (
        True, True, False, True,
    )  # fmt: skip
    assert options.pod == "web"
    for wrong in ("--follow=maybe", "--tail=true", "--nothing=true"):
        with pytest.raises(SystemExit):
            build().parse_args(["logs", "web", wrong])
        assert wrong.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get"], "error: you must specify the type of resource"),
        (["get", "deploy"], "error: the server doesn't have a resource type 'deploy'"),
        (["get", "pod/a", "b"], "error: there is no need to mix TYPE/NAME"),
        (["get", "pod/"], "error: 'pod/' is not TYPE/NAME, such as pod/web"),
        (["get", "pods", "-o", "xml"], "error: argument -o/--output: invalid choice: 'xml'"),
        (["get", "pods", "--wide"], "error: unrecognized arguments: --wide"),
        (["get", "pod", "x", "-A"], "error: a resource cannot be retrieved by name across all namespaces"),
        (["get", "pod", "x", "-l", "a=b"], "error: name cannot be provided when a selector is specified"),
        (["get", "pods,cm", "-w"], "error: you may only specify a single resource type"),
        (["get", "pods", "-l", "a!=b"], "error: argument -l/--selector: 'a!=b' is not KEY=VALUE"),
        (["get", "pod", "a\x1bb"], r"error: 'a\x1bb' is no name of an object"),
        (["describe"], "error: you must specify the type of resource"),
        (["delete", "pod"], "error: resource(s) were provided, but no name was specified"),
        (["delete"], "error: give either a kind and a name, or -f FILE"),
        (["delete", "pod", "a", "--force", "--grace-period", "5"], "error: --force and a --grace-period"),
        (["delete", "pod", "a", "--wait=maybe"], "error: argument --wait: 'maybe' is neither true nor false"),
        (["delete", "pod", "a", "--timeout", "soon"], "error: argument --timeout: 'soon' is no duration"),
        (["logs"], "error: give either a POD or a selector (-l)"),
        (["logs", "cm/a"], "error: 'cm/a' is no pod"),
        (["logs", "a", "b", "-c", "c"], "error: only one of -c or an inline CONTAINER"),
        (["logs", "a", "--tail", "-2"], "error: argument --tail: "),
        (["logs", "a", "-l", "b=c"], "error: give either a POD or a selector (-l)"),
        (["logs", "a", "-c", "b", "--all-containers"], "error: --all-containers=true should not be"),
        (["logs", "a", "-f", "-p"], "error: only one of --follow (-f) or --previous (-p)"),
        (["logs", "a", "--since", "soon"], "error: argument --since: 'soon' is no duration"),
        (["logs", "a", "--since-time", "noon"], "error: argument --since-time: 'noon' is no time"),
        (
            ["logs", "a", "--since", "1s", "--since-time", "2026-01-01T00:00:00Z"],
            "error: argument --since-time",
        ),
        (
            ["exec", "a"],
            "error: you must specify at least one command for the container after --, as in: exec",
        ),
        (
            ["exec", "-it", "a", "sh"],
            "error: put the command for the container after --, as in: exec a -- sh",
        ),
        (
            ["exec", "a", "b", "--", "c"],
            "error: put the command for the container after --, as in: exec a -- b c",
        ),
        (["exec", "node/a", "--", "ls"], "error: 'node/a' is no pod"),
        (["exec", "--", "ls"], "error: the following arguments are required: POD"),
        (["port-forward", "a"], "error: the following arguments are required: [LOCAL:]REMOTE"),
        (["port-forward", "a", "80:"], "error: '80:' is not [LOCAL:]REMOTE"),
        (["port-forward", "a", "80:70000"], "error: '70000' is no port: give a number from 1 to 65535"),
        (["logs", "a", "--tail", "few"], "error: argument --tail: 'few' is no number of lines"),
        (["port-forward", "a", "x:80"], "error: 'x' is no port"),
        (["port-forward", "cm/a", "80"], "error: ports are those of a pod or of a service/NAME"),
        (["port-forward", "a", "80", "--address", "x.example"], "error: argument --address: 'x.example'"),
        (["top"], "error: the following arguments are required: node | pod"),
        (["top", "node", "--containers"], "error: --containers is for pods alone"),
        (["top", "pod", "a", "-A"], "error: a pod cannot be retrieved by name across all namespaces"),
        (["top", "pod", "--sort-by", "name"], "error: argument --sort-by: invalid choice"),
        (["events", "--for", "web"], "error: argument --for: 'web' is not KIND/NAME"),
        (["events", "--for", "deploy/web"], "error: argument --for: the server doesn't have a resource"),
        (["events", "--types", "Bad"], "error: argument --types: 'Bad': valid --types are Normal or Warning"),
        (["get", "pods", "--types", "Normal"], "error: --for and --types are for events alone"),
        (["apply"], "error: the following arguments are required: -f/--filename"),
        (["bogus"], "error: argument COMMAND: invalid choice: 'bogus'"),
        (
            ["get", "pods", "--config", "/nonexistent/x.json"],
            "error: there is no operator file at /nonexistent",
        ),
    ],
)
def test_usage_errors(ctl: Ctl, words: list[str], message: str) -> None:
    done = ctl(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(message)
    assert done.err.count("\n") <= 2


def test_a_bad_namespace(ctl: Ctl, config: int) -> None:
    assert "error: --namespace: 'A' must be" in ctl("get", "pods", "-n", "A").err


def test_the_parser_knows_every_format() -> None:
    assert OUTPUTS == FORMATS


def test_small_readers() -> None:
    assert [parse_duration(text) for text in ("5", "0", "10s", "1m30s", "1.5h")] == [5, 0, 10, 90, 5400]
    assert parse_selector("a=b, c==d,e=") == {"a": "b", "c": "d", "e": ""}


def test_version(ctl: Ctl) -> None:
    assert ctl("version").out == f"Client Version: v{edgeagent.__version__}\n"
    assert json.loads(ctl("version", "-o", "json").out) == yaml.safe_load(ctl("version", "-o", "yaml").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(ctl: Ctl, shell: str) -> None:
    script = ctl("completion", shell).out
    assert "dry-run" in script
    for command in ("exec", "port-forward", "top", "events"):
        assert command in script
    if shell == "bash":
        for words, offered in (
            ("get po", "pods"),
            ("get netw", "networkpolicies"),
            ("to", "top"),
            ("top p", "pod"),
            ("top pod --sort-by m", "memory"),
            ("events --types W", "Warning"),
            ("events --for netw", "networkpolicy/"),
            ("get pods -o w", "wide"),
            ("exec hello --s", "--stdin"),
            ("exec hello -- ge", ""),
            ("logs -f --all", "--all-containers"),
            ("port-forward hello 80 --address l", "localhost"),
        ):
            probe = f"COMP_WORDS=(edgectl {words}); COMP_CWORD={len(words.split())}; _edgectl"
            done = subprocess.run(
                ["bash", "-c", f"{script}\n{probe}; echo ${{COMPREPLY[@]}}"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout == f"{offered}\n", words


def test_a_dry_run_at_the_client_asks_nobody(ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "hello.yaml"
    file.write_text(HELLO)
    done = ctl("apply", "-f", file, "--dry-run", "--config", "/nonexistent")
    assert (done.code, done.out) == (0, "configmap/settings created (dry run)\npod/hello created (dry run)\n")
    file.write_text(HELLO.replace("name: web", "nmae: web"))
    done = ctl("apply", "-f", file, "--dry-run=client")
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"error: .*/hello\.yaml: document 2: spec\.containers\[0\]\.[a-z]+: .*\n", done.err)


REFUSED = """\
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  nodeName: n1
  hostUsers: false
  affinity: {}
  volumes: [{name: data, nfs: {server: a, path: /}}]
  containers:
  - {name: web, image: busybox, resources: {limits: {"gpu\\e[2J": 1}}}
"""


def test_applying_a_pod_that_a_node_will_refuse_warns(ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "hello.yaml"
    file.write_text(f"{HELLO}---\n{REFUSED.replace('name: hello', 'name: other')}")
    done = ctl("apply", "-f", file, "--dry-run=client")
    assert (done.code, done.out.splitlines()) == (
        0,
        [f"{name} created (dry run)" for name in ("configmap/settings", "pod/hello", "pod/other")],
    )
    start, end = f"Warning: {file}: document 3: spec.", "; the node will not run this pod"
    assert done.err.splitlines() == [
        f"{start}volumes[0].nfs: not supported by edgeagent{end}",
        f"{start}hostUsers: user namespaces are not supported, only true{end}",
        f"{start}containers[0].resources.limits.gpu\\x1b[2J: only cpu, memory, ephemeral-storage"
        f" are supported{end}",
    ]


def test_nobody_is_warned_of_what_runs(ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "hello.yaml"
    file.write_text(HELLO)
    assert ctl("apply", "-f", file, "--dry-run=client").err == ""


def test_standard_input(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(HELLO.encode())))
    assert ctl("apply", "-f", "-", "--dry-run=client").out.count("created (dry run)") == 2


def test_errors_name_what_to_check(ctl: Ctl, tmp_path: Path) -> None:
    port = free_port()
    path = write_operator(tmp_path / "o.json", operator(port))
    done = ctl("get", "pods", "--config", path)
    assert done.code == 1
    assert re.match(rf"error: no broker can be reached: 127\.0\.0\.1:{port}: .*refused", done.err)
    path.chmod(0o644)
    assert ctl("get", "pods", "--config", path).err.startswith(
        "warning: other users can read the private key in "
    )


def test_a_hub_that_does_not_answer(ctl: Ctl, config: int) -> None:
    done = ctl("get", "pods", "--request-timeout", "0.3s")
    assert (done.code, done.out) == (1, "")
    assert "the hub did not answer 'get' within 0.3s" in done.err
