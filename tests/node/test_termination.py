"""The termination message of a container.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import PodSpec
from edgeagent.node.pods.termination import (
    message_limit,
    prepare_message,
    read_message,
    remove_all_messages,
    remove_messages,
    termination_file,
    termination_mount,
)

MAIN = Container(name="main", image="i")
FALLS_BACK = Container(name="main", image="i", termination_message_policy="FallbackToLogsOnError")


@pytest.fixture
def message(tmp_path: Path) -> Path:
    return prepare_message(tmp_path, "u1", "main", 0)


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "container.log"
    path.write_text(
        "".join(f"2026-01-01T00:00:00.000000000Z stdout F line {index}\n" for index in range(200))
    )
    return str(path)


def test_the_file_is_empty_and_every_user_may_write_it(tmp_path: Path, message: Path) -> None:
    assert message == termination_file(tmp_path, "u1", "main", 0)
    message.write_text("of the run before")
    before = os.umask(0o077)
    try:
        assert prepare_message(tmp_path, "u1", "main", 0) == message
    finally:
        os.umask(before)
    assert (message.read_bytes(), message.stat().st_mode & 0o777) == (b"", 0o666)


def test_it_is_mounted_at_the_termination_message_path(message: Path) -> None:
    assert termination_mount(MAIN, message).destination == "/dev/termination-log"
    own = msgspec.structs.replace(MAIN, termination_message_path="/tmp/my-log")  # noqa: S108
    mount = termination_mount(own, message)
    assert (mount.source, mount.destination, mount.read_only) == (str(message), "/tmp/my-log", False)  # noqa: S108


@pytest.mark.parametrize("code", [0, 1])
def test_what_the_container_wrote_is_its_message(message: Path, log: str, code: int) -> None:
    message.write_text("Sleep expired\n")
    for container in (MAIN, FALLS_BACK):
        assert read_message(container, message, log, code) == "Sleep expired\n"


def test_no_more_than_4096_bytes(message: Path) -> None:
    message.write_bytes(b"a" * 10_000 + b"b" * 4096)
    assert read_message(MAIN, message, "", 0) == "b" * 4096


def test_the_log_stands_in_only_for_an_empty_file_of_a_failed_container(message: Path, log: str) -> None:
    assert read_message(MAIN, message, log, 1) == ""
    assert read_message(FALLS_BACK, message, log, 0) == ""
    assert read_message(FALLS_BACK, message, "", 1) == ""
    assert read_message(FALLS_BACK, message, log + ".gone", 1) == ""
    lines = read_message(FALLS_BACK, message, log, 1).splitlines()
    assert lines == [f"line {index}" for index in range(120, 200)]


def test_no_more_than_2048_bytes_of_the_log(message: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.log"
    path.write_text(f"2026-01-01T00:00:00Z stderr F {'x' * 5000}\n")
    assert read_message(FALLS_BACK, message, str(path), 1) == "x" * 2047 + "\n"


def test_a_pods_containers_share_12_kib(message: Path) -> None:
    assert message_limit(PodSpec(containers=[MAIN])) == 4096
    assert message_limit(PodSpec(containers=[MAIN] * 2, init_containers=[MAIN])) == 4096
    twelve = PodSpec(containers=[MAIN] * 5, init_containers=[MAIN] * 7)
    assert message_limit(twelve) == 1024
    message.write_text("a" * 1024 + "b")
    assert read_message(MAIN, message, "", 0, limit=message_limit(twelve)) == "a" * 1024


def test_only_a_regular_file_is_read(message: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    message.unlink()
    message.symlink_to(secret)
    assert read_message(MAIN, message, "", 1) == ""
    with pytest.raises(TemporaryError, match="symbolic"):
        prepare_message(tmp_path, "u1", "main", 0)
    assert secret.read_text() == "of somebody else"
    message.unlink()
    os.mkfifo(message)
    assert read_message(MAIN, message, "", 1) == ""
    message.unlink()
    message.mkdir()
    assert read_message(MAIN, message, "", 1) == ""
    message.rmdir()
    assert read_message(MAIN, message, "", 1) == ""


@given(written=st.binary(max_size=6000), limit=st.integers(1, 4096))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_become_text_within_the_limit(message: Path, written: bytes, limit: int) -> None:
    message.write_bytes(written)
    text = read_message(MAIN, message, "", 0, limit=limit)
    assert len(text.encode()) <= limit
    whole = written[-4096:].decode(errors="replace")
    assert whole.startswith(text)


def test_earlier_runs_are_forgotten(tmp_path: Path) -> None:
    for attempt in range(3):
        prepare_message(tmp_path, "u1", "main", attempt)
    other = prepare_message(tmp_path, "u1", "other", 0)
    remove_messages(tmp_path, "u1", "main", keep=2)
    assert os.listdir(other.parent.parent / "main") == ["2"]
    assert other.exists()
    remove_messages(tmp_path, "u1", "unknown", keep=0)


def test_with_the_pod_all_go(tmp_path: Path, message: Path) -> None:
    (tmp_path / "u1" / "volumes").mkdir()
    remove_all_messages(tmp_path, "u1")
    remove_all_messages(tmp_path, "u1")
    assert os.listdir(tmp_path / "u1") == ["volumes"]


@pytest.mark.parametrize("uid", ["", ".", "..", "../u1", "/etc", "u\0"])
def test_a_uid_leads_nowhere_else(tmp_path: Path, uid: str) -> None:
    (tmp_path / "pods").mkdir()
    for call in (termination_file, prepare_message):
        with pytest.raises(PermanentError):
            call(tmp_path / "pods", uid, "main", 0)
    with pytest.raises(PermanentError):
        remove_all_messages(tmp_path / "pods", uid)
    assert os.listdir(tmp_path) == ["pods"]
