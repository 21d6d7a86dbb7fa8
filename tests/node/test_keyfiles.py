"""The node's private keys on disk: closed to others, and sealed by the real systemd-creds."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.node.config import AgentConfig, AgentSection, IdentitySection
from edgeagent.node.identity import IdentityDir
from edgeagent.node.identityguard import guard_identity
from edgeagent.node.keyfiles import KeyFiles, run_program
from edgeagent.node.privatefiles import close_to_others, write_private
from edgeagent.node.renewedfiles import RenewedFiles
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.join import BrokerAddress, JoinFile
from tests.support.sealing import cannot_seal

KEY = b"-----BEGIN PRIVATE KEY----- nobody-else-has-this\n"
SEALING = bytes(range(32))


@pytest.fixture
def sealing() -> None:
    """Skips where nothing can be sealed."""
    if why := cannot_seal():
        pytest.skip(why)


class Counted:
    """The real program; what it was run with."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def __call__(self, argv: Sequence[str], data: bytes) -> bytes:
        """Run it."""
        self.commands.append(argv[1])
        assert not any(b"nobody" in word.encode() for word in argv)
        return run_program(argv, data)


def join_file() -> JoinFile:
    return JoinFile(
        cluster="plant",
        node="gw-1",
        brokers=[BrokerAddress(host="broker", port=8883)],
        ca="ca 0\n",
        certificate="certificate 0\n",
        private_key=KEY.decode(),
        trust=TrustAnchor(cluster="plant", serial=1, key=bytes(32)),
        sealing_key=SEALING,
    )


def config(folder: Path, *, seal: bool = False) -> AgentConfig:
    return AgentConfig(
        agent=AgentSection(state_dir=str(folder / "state"), run_dir=str(folder / "run")),
        identity=IdentitySection(seal="systemd-creds" if seal else "", seal_with="host"),
    )


def in_clear(folder: Path) -> list[str]:
    """The files below that hold one of the keys."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(key in path.read_bytes() for key in (KEY, SEALING))
    ]


# Closed to others


def test_files_that_others_can_read_are_closed_to_them_and_told_of(tmp_path: Path) -> None:
    IdentityDir(tmp_path / "state" / "identity").write(join_file())
    folder = tmp_path / "state" / "identity"
    assert guard_identity(config(tmp_path)).problems == []
    (folder / "node.key").chmod(0o644)
    (folder / "sealing.key").chmod(0o660)
    os.chown(folder / "sealing.key", 12345, 12345)
    folder.chmod(0o755)
    (problem,) = guard_identity(config(tmp_path)).problems
    assert problem[0] == "IdentityExposed"
    for words in (
        "node.key (mode 0644)",
        "sealing.key (mode 0660, owner 12345)",
        "identity (mode 0755)",
        "revoke",
    ):
        assert words in problem[1]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("node.key", "sealing.key"):
        status = (folder / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())
    assert guard_identity(config(tmp_path)).problems == []


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("not ours")
    other.chmod(0o644)
    folder = tmp_path / "identity"
    folder.mkdir(mode=0o700)
    (folder / "node.key").symlink_to(other)
    (folder / "broken").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "pipe", 0o644)
    assert close_to_others(folder) == ["pipe (mode 0644)"]
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


def test_a_machine_that_was_never_enrolled_has_nothing_to_guard(tmp_path: Path) -> None:
    guarded = guard_identity(config(tmp_path))
    assert guarded.problems == []
    assert guarded.keys == tmp_path / "state" / "identity"


# Sealed


@pytest.mark.usefixtures("sealing")
def test_sealed_keys_are_nowhere_in_clear_but_below_run(tmp_path: Path) -> None:
    program = Counted()
    folder, run = tmp_path / "state" / "identity", tmp_path / "run"
    files = IdentityDir(folder, KeyFiles(folder, opened=run, seal="host", program=program))
    files.write(join_file())
    assert in_clear(tmp_path) == []
    assert sorted(os.listdir(folder)) == [
        "ca.crt", "identity.json", "node.crt", "node.key.cred", "sealing.key.cred",
    ]  # fmt: skip
    key = RenewedFiles(files).in_force.key
    assert key.is_relative_to(run)
    assert key.read_bytes() == KEY
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert files.keys.usable(files.sealing_key).name == "sealing.key"
    assert files.keys.usable(files.sealing_key).read_bytes() == SEALING
    assert files.keys.read(files.sealing_key) == SEALING
    assert in_clear(tmp_path / "state") == []
    # What lies open is not opened once more, unless it is of another seal.
    program.commands.clear()
    assert RenewedFiles(files).in_force.key == key
    assert program.commands == []
    files.keys.write(files.private_key, b"another")
    assert RenewedFiles(files).in_force.key.read_bytes() == b"another"


@pytest.mark.usefixtures("sealing")
def test_a_renewal_keeps_the_seal(tmp_path: Path) -> None:
    folder = tmp_path / "identity"
    IdentityDir(folder, KeyFiles(folder, seal="host")).write(join_file())
    # By a program that was not told to seal: what is there tells it.
    files = IdentityDir(folder, KeyFiles(folder, opened=tmp_path / "run"))
    renewed = RenewedFiles(files)
    staged = renewed.stage(ca="ca 1\n", certificate="certificate 1\n", key="nobody-else-has-this 1\n")
    assert staged.key.read_text() == "nobody-else-has-this 1\n"
    assert renewed.in_force.key.read_bytes() == KEY
    renewed.adopt()
    assert renewed.in_force.key.read_text() == "nobody-else-has-this 1\n"
    again = RenewedFiles(IdentityDir(folder, KeyFiles(folder, opened=tmp_path / "run2")))
    assert again.in_force.key.read_text() == "nobody-else-has-this 1\n"
    again.settle()
    assert again.in_force.key.read_text() == "nobody-else-has-this 1\n"
    assert again.in_force.certificate.read_text() == "certificate 1\n"
    found = [path for path in folder.rglob("*") if path.is_file() and b"nobody-else" in path.read_bytes()]
    assert found == []
    assert not (folder / "renewed").exists()


@pytest.mark.usefixtures("sealing")
def test_keys_in_clear_are_sealed_at_the_next_start(tmp_path: Path) -> None:
    IdentityDir(tmp_path / "state" / "identity").write(join_file())
    assert in_clear(tmp_path) == ["state/identity/node.key", "state/identity/sealing.key"]
    guarded = guard_identity(config(tmp_path, seal=True))
    assert guarded.problems == []
    assert (guarded.keys / "sealing.key").read_bytes() == SEALING
    assert guarded.keys.is_relative_to(tmp_path / "run")
    assert in_clear(tmp_path / "state") == []
    # And without that setting they stay so, enrolling anew included.
    files = guard_identity(config(tmp_path)).files
    files.write(join_file())
    assert in_clear(tmp_path / "state") == []


@pytest.mark.usefixtures("sealing")
def test_what_systemd_opened_for_the_unit_is_used_until_the_key_is_another(tmp_path: Path) -> None:
    folder, given = tmp_path / "identity", tmp_path / "credentials"
    IdentityDir(folder, KeyFiles(folder, seal="host")).write(join_file())
    given.mkdir()
    write_private(given / "node.key", KEY)
    program = Counted()
    keys = KeyFiles(
        folder, opened=tmp_path / "run", program=program, environment={"CREDENTIALS_DIRECTORY": str(given)}
    )
    files = IdentityDir(folder, keys)
    assert RenewedFiles(files).in_force.key == given / "node.key"
    assert keys.read(files.private_key) == KEY
    assert program.commands == []
    assert keys.usable(files.sealing_key) == tmp_path / "run" / "identity" / "sealing.key"
    keys.write(files.private_key, b"renewed")
    assert RenewedFiles(files).in_force.key.read_bytes() == b"renewed"


@pytest.mark.usefixtures("sealing")
def test_a_seal_of_another_machine_or_name_is_told_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "identity"
    files = IdentityDir(folder, KeyFiles(folder, opened=tmp_path / "run", seal="host"))
    files.write(join_file())
    # A credential is bound to its name: the one cannot stand in for the other.
    os.replace(folder / "sealing.key.cred", folder / "node.key.cred")
    with pytest.raises(PermanentError, match=r"node\.key\.cred cannot be opened: .*enroll --force"):
        RenewedFiles(files).in_force  # noqa: B018 - asked for its error
    (folder / "sealing.key.cred").write_bytes(b"broken")
    guarded = guard_identity(config(tmp_path))
    assert [reason for reason, _ in guarded.problems] == ["IdentityExposed", "IdentityNotOpened"]


def test_without_the_program_keys_stay_as_they_are_and_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    IdentityDir(tmp_path / "state" / "identity").write(join_file())
    monkeypatch.setenv("PATH", str(tmp_path))
    guarded = guard_identity(config(tmp_path, seal=True))
    ((reason, message),) = guarded.problems
    assert reason == "IdentityNotGuarded"
    assert "systemd-creds is not installed" in message
    assert guarded.files.keys.usable(guarded.files.private_key).read_bytes() == KEY
