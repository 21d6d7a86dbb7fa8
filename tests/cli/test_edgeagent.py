"""The technician's program where no agent runs: enrolment, clear errors, what would be loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent.cli.edgeagent import main
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import BrokerAddress, JoinFile
from tests.node.indexes import ANCHOR, CLUSTER, NODE


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[agent]\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n')
    return path


@pytest.fixture
def join(tmp_path: Path) -> Path:
    path = tmp_path / "node.join"
    content = JoinFile(
        cluster=CLUSTER, node=NODE, brokers=[BrokerAddress(host="broker.example")], ca="ca",
        certificate="cert", private_key="key", trust=ANCHOR, sealing_key=bytes(32),
    )  # fmt: skip
    path.write_bytes(canonical_json(content))
    return path


def run(config: Path, *arguments: str | Path) -> int:
    return main(["--config", str(config), *map(str, arguments)])


def test_enrolment_once_and_again(
    config: Path, join: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "enroll", "--join-file", join) == 0
    assert f"enrolled as node '{NODE}' of cluster '{CLUSTER}'" in capsys.readouterr().out
    for path in (tmp_path / "state" / "identity").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert run(config, "enroll", "--join-file", join) == 1
    assert "add --force" in capsys.readouterr().err
    assert run(config, "enroll", "--join-file", join, "--force") == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is no join file"),
        ("{", "is no join file"),
        ("[1]", "is no join file"),
        ('{"cluster": "c"}', "required field is missing"),
        ("[" * 5000, "is no join file"),
    ],
)
def test_what_is_no_join_file_is_refused_by_name(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    bad = tmp_path / "bad.join"
    bad.write_text(content)
    assert run(config, "enroll", "--join-file", bad) == 1
    error = capsys.readouterr().err
    assert str(bad) in error
    assert problem in error
    assert not (tmp_path / "state" / "identity" / "identity.json").exists()


@pytest.mark.parametrize("command", [["status"], ["get", "pods"], ["logs", "web"]])
def test_without_an_agent_the_error_says_how_to_start_it(
    config: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(config, *command) == 1
    assert "systemctl start edgeagent" in capsys.readouterr().err


def test_plugins_can_be_listed_without_an_agent(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(
        config.read_text() + "[plugins.podman]\nsockett = 1\n[plugins.security]\nenabled = false\n"
    )
    assert run(config, "plugins", "list") == 0
    out = capsys.readouterr().out
    assert "plugins.podman.sockett: unknown field" in out
    assert run(config, "plugins", "list", "-o", "json") == 0
    found = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert found["podman"]["state"] == "Failed"
    assert found["security"]["state"] == "Stopped"


def test_a_broken_configuration_names_file_and_place(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text("[agent]\nresync_second = 3\n")
    assert run(config, "status") == 1
    assert f"{config}: agent.resync_second: unknown field" in capsys.readouterr().err


COMMANDS = (
    "run", "enroll", "status", "get", "describe", "events", "logs", "exec", "top", "network", "audit",
    "plugins",
)  # fmt: skip


def test_help_has_all_commands_and_their_examples(capsys: pytest.CaptureFixture[str]) -> None:
    def told(*words: str) -> str:
        with pytest.raises(SystemExit) as ending:
            main([*words, "--help"])
        assert ending.value.code == 0
        return capsys.readouterr().out

    top = told()
    for command in COMMANDS:
        assert command in top
        assert "examples:" in told(command) or command in ("run", "plugins")


@pytest.mark.parametrize("words", [["--help"], ["exec", "--help"], ["top", "--help"], ["get"], ["get", "x"]])
def test_help_and_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from edgeagent.cli.edgeagent import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'asyncio', 'msgspec', 'ssl', 'http', 'termios'} & sys.modules.keys()\n"
        "sys.exit(f'{heavy} were imported' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["exec", "web"], "at least one command for the container after --, as in: exec web -- ls"),
        (["exec", "-it", "web", "sh"], "put the command for the container after --, as in: exec web -- sh"),
        (["logs", "web", "-c", "a", "--all-containers"], "give either --container or --all-containers"),
        (["logs", "web", "-f", "-p"], "give either --follow or --previous"),
        (["describe", "cm/x"], "'cm' cannot be described here: give pod/NAME or node"),
        (["describe", "pod/"], "give KIND NAME or KIND/NAME"),
        (["describe", "pod/a", "b"], "give KIND NAME or KIND/NAME"),
        (["describe", "pod", "a", "-A"], "a pod cannot be named across all namespaces"),
    ],
)
def test_words_that_make_no_sense(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(config, *words) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["get", "pods", "exec", "--", "ls"], "unrecognized arguments: -- ls"),
        (["logs", "web", "ls"], "unrecognized arguments: ls"),
        (["events", "--types", "Bad"], "valid --types are Normal or Warning"),
        (["logs", "web", "--tail", "-5"], "argument --tail"),
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ending:
        main(words)
    assert ending.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["exec", "web", "--", "ls"],
        ["logs", "-f", "web"],
        ["events", "-w"],
        ["describe", "node"],
        ["top", "--once"],
    ],
)
def test_hands_without_an_agent_say_how_to_start_it(
    config: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run(config, *command) == 1
    assert "systemctl start edgeagent" in capsys.readouterr().err


def test_what_is_told_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages name what containers, files and other machines are called."""
    assert main(["--config", "/no\x1b[2J\rwhere", "status"]) == 1
    assert "/no\\x1b[2J\\rwhere" in capsys.readouterr().err
