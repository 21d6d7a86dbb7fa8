"""``edgehub`` as people run it."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgeagent.cli.edgehub import main
from edgeagent.wire.join import check_join
from tests.support.broker import MOSQUITTO
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for


def _init(directory: Path, *more: str) -> int:
    return main(["init", "--dir", str(directory), "--cluster", "plant", "--broker", "127.0.0.1:8883", *more])


def test_init_makes_files_that_others_cannot_read_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert _init(tmp_path / "hub") == 0
    finally:
        os.umask(before)
    private = {
        "ca.key",
        "hub.key",
        "broker.key",
        "signing.key",
        "sealing.key",
        "hub.db",
        "hub.db.key",
        "operator.json",
        "acl",
        "passwords",
    }
    for path in [tmp_path / "hub", *(tmp_path / "hub").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        expected = 0o700 if path.is_dir() else 0o600 if path.name in private else 0o644
        assert mode == expected, path
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "no port:x"], "is no broker address"),
        (["--cluster", "Not a label"], "cluster:"),
        (["--operator", "a/b"], "operator:"),
    ],
)
def test_init_refuses_what_cannot_work_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert _init(tmp_path / "hub", *arguments) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert _init(tmp_path / "empty") == 0
    assert _init(tmp_path / "hub") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()}
    assert _init(tmp_path / "hub") == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()} == before


def test_nodes_are_added_listed_and_given_new_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = str(tmp_path / "hub")
    _init(tmp_path / "hub")
    file = tmp_path / "gw-1.json"
    add = ["node", "add", "gw-1", "--dir", hub, "--output"]
    assert main([*add, str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    join = check_join(json.loads(file.read_text()))
    assert (join.cluster, join.node, join.trust.serial) == ("plant", "gw-1", 1)
    capsys.readouterr()
    assert main([*add, str(tmp_path / "again.json")]) == 1
    assert "--replace" in capsys.readouterr().err
    assert not (tmp_path / "again.json").exists()
    assert main([*add, str(file), "--replace"]) == 1
    assert "exists and is left as it is" in capsys.readouterr().err
    assert main([*add, "-", "--replace"]) == 0
    assert check_join(json.loads(capsys.readouterr().out)).certificate != join.certificate
    for name in ("hub", "user:x", "Bad", ""):
        assert main(["node", "add", name, "--dir", hub, "--output", str(tmp_path / "bad.json")]) == 1
        assert not (tmp_path / "bad.json").exists()
    assert main(["keys", "rotate", "--dir", hub]) == 0
    assert "signing key 2" in capsys.readouterr().out
    assert main(["node", "list", "--dir", hub, "--output", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["generation"]) for one in listed] == [("gw-1", 0)]
    assert main(["node", "list", "--dir", hub]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("gw-1 ")


def test_a_directory_that_is_no_hubs_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["run"], ["node", "list"], ["node", "add", "x"], ["keys", "rotate"]):
        assert main([*arguments, "--dir", str(tmp_path)]) == 1
        assert "`edgehub init` makes one" in capsys.readouterr().err


def test_a_database_of_a_newer_version_or_of_noise_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _init(tmp_path / "hub")
    database = tmp_path / "hub" / "hub.db"
    database.write_bytes(b"noise" * 5000)
    assert main(["run", "--dir", str(tmp_path / "hub")]) == 1
    assert "restore it from a backup" in capsys.readouterr().err
    assert database.read_bytes() == b"noise" * 5000


def test_usage_errors_end_with_2_and_help_imports_nothing_heavy() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dance"])
    assert ended.value.code == 2
    script = (
        "import sys, contextlib\nfrom edgeagent.cli.edgehub import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "heavy = {'cryptography', 'paho', 'msgspec', 'sqlite3', 'asyncio', 'ssl'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout


def test_run_serves_until_sigterm_and_only_once(tmp_path: Path) -> None:
    port = free_port()
    hub = tmp_path / "hub"
    address = f"127.0.0.1:{port}"
    assert (
        main(["init", "--dir", str(hub), "--cluster", "plant", "--broker", address, "--listen", address]) == 0
    )
    program = [sys.executable, "-m", "edgeagent.cli.edgehub"]
    broker = Process(
        [MOSQUITTO, "-c", str(hub / "mosquitto" / "mosquitto.conf")], log=tmp_path / "broker.log"
    )
    running = Process([*program, "run", "--dir", str(hub)], log=tmp_path / "hub.log")
    with broker, running:
        broker.wait_until(lambda: port_answers(port))
        running.wait_until(lambda: "ready" in running.tail())
        second = subprocess.run(
            [*program, "run", "--dir", str(hub)], capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "another edgehub runs" in second.stderr
        # The running hub is told of a new node, and publishes its first index.
        assert main(["node", "add", "gw-1", "--dir", str(hub), "--output", str(tmp_path / "j")]) == 0
        wait_for(lambda: "node gw-1: generation 1" in running.tail(), what="the first index")
        assert main(["keys", "rotate", "--dir", str(hub)]) == 0
        wait_for(lambda: "node gw-1: generation 2" in running.tail(), what="the index signed anew")
        running.terminate()
        assert running.returncode == 0, running.tail()
    assert msgspec.json.decode((hub / "signing.key").read_bytes())["serial"] == 2


def test_the_key_of_the_database_is_changed_by_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _init(tmp_path / "hub") == 0
    key = tmp_path / "hub" / "hub.db.key"
    before, signing = key.read_bytes(), (tmp_path / "hub" / "signing.key").read_bytes()
    assert main(["keys", "rotate", "--at-rest", "--dir", str(tmp_path / "hub")]) == 0
    assert "are encrypted with a new key" in capsys.readouterr().out
    assert len(key.read_bytes()) == 32
    assert key.read_bytes() != before
    assert (tmp_path / "hub" / "signing.key").read_bytes() == signing
    key.unlink()
    assert main(["token", "list", "--dir", str(tmp_path / "hub")]) == 1
    assert "restore both from the same backup" in capsys.readouterr().err
