"""``edgeagent enroll`` as people type it, right and wrong."""

import json
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.cli.edgeagent import main
from edgeagent.cluster.init import init
from edgeagent.cluster.nodes import add_node
from edgeagent.wire.enrolment import new_token
from edgeagent.wire.join import BrokerAddress
from tests.support.proc import free_port


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose identity lies in the test's own folder."""
    file = tmp_path / "config.toml"
    file.write_text(f'[agent]\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n')
    return file


def enroll(config: Path, *words: str) -> int:
    return main(["--config", str(config), "enroll", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--token", new_token().text], "--token needs --cluster and --broker"),
        (["--token", new_token().text, "--cluster", "plant"], "--token needs --broker"),
        (["--token", "short", "--cluster", "plant", "--broker", "b"], "that is no token"),
        (["--token", new_token().text, "--cluster", "No Name", "--broker", "b"], "cluster: "),
        (["--token", new_token().text, "--cluster", "p", "--broker", "b", "--name", "A b"], "name: "),
        (["--token", new_token().text, "--cluster", "p", "--broker", "b:x"], "is no broker address"),
        (["--join-file", "/nowhere"], "/nowhere cannot be read"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert enroll(config, *words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert words[1] not in error or words[0] != "--token"
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize("words", [[], ["--token", "a", "--join-file", "b"]])
def test_one_way_is_chosen(config: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        enroll(config, *words)
    assert stopped.value.code == 2


def test_a_broker_that_is_not_there_is_named_with_what_to_look_at(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"127.0.0.1:{free_port()}"
    words = ["--token", new_token().text, "--cluster", "plant", "--broker", where, "--name", "gw-1"]
    assert enroll(config, *words, "--timeout", "0.3") == 1
    error = capsys.readouterr().err
    assert "asking to become node 'gw-1' of cluster 'plant'" in error
    assert f"{where} cannot be reached: Connection refused." in error
    assert "`edgehub token create` prints it" in error


def test_a_join_file_makes_a_node_as_before(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = init(tmp_path / "hub", "plant", [BrokerAddress(host="broker")], clock=SystemClock())
    add_node(files, "gw-1", SystemClock(), output=tmp_path / "join")
    assert enroll(config, "--join-file", str(tmp_path / "join"), "-o", "json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"node": "gw-1", "cluster": "plant", "brokers": ["broker:8883"]}
    assert enroll(config, "--join-file", str(tmp_path / "join")) == 1
    assert "add --force" in capsys.readouterr().err
    assert enroll(config, "--join-file", str(tmp_path / "join"), "--force") == 0
    assert "now delete" in capsys.readouterr().out
