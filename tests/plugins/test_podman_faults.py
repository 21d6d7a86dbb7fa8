"""A Podman that is absent, silent, failing, or no Podman at all: what a real one cannot be made to show."""

import base64
import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.runtime import ContainerConfig, PullCredentials
from edgeagent_podman import client as client_module
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.runtime import PodmanRuntime

ID = "ab" * 32
TIMEOUT = 0.5
Handler = Callable[[socket.socket, bytes], None]


class FakePodman:
    """Listens on a unix socket and hands each request, one after the other, to the next handler."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.handlers: list[Handler] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def answer(self, *handlers: Handler) -> None:
        """What to do with the requests to come; the last handler serves all further ones too."""
        self.requests.clear()
        self.handlers = list(handlers)

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._closing.is_set():
                    return
                connection.settimeout(10)
                request = self._receive(connection)
                self.requests.append(request)
                handler = self.handlers.pop(0) if len(self.handlers) > 1 else self.handlers[0]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side had enough
                    handler(connection, request)

    @staticmethod
    def _receive(connection: socket.socket) -> bytes:
        """One whole request: closing with bytes unread would take the answer along."""
        request = b""
        while b"\r\n\r\n" not in request and (part := connection.recv(65536)):
            request += part
        head, _, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]) and (part := connection.recv(65536)):
            body += part
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._listener.close()


def http(status: int, body: bytes | object, *headers: str) -> Handler:
    """A whole answer."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)

    def handle(connection: socket.socket, request: bytes) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *headers]
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    return handle


def error(status: int, cause: str, message: str = "") -> Handler:
    """An answer in the form of Podman's errors."""
    return http(status, {"cause": cause, "message": message or cause, "response": status})


def raw(data: bytes) -> Handler:
    """These bytes, and the end."""
    return lambda connection, request: connection.sendall(data)


def silent(connection: socket.socket, request: bytes) -> None:
    """Nothing until the other side hangs up."""
    connection.recv(1)


def trickle(connection: socket.socket, request: bytes) -> None:
    """A body that comes byte by byte and never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def endless(connection: socket.socket, request: bytes) -> None:
    """A body without an end, as fast as it is taken."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n[")
    while True:
        connection.sendall(b"1," * 32768)


def hang_up(connection: socket.socket, request: bytes) -> None:
    """No answer at all."""


def container(status: str = "running", **changes: object) -> dict[str, object]:
    return {"Id": ID, "Name": "c", "State": {"Status": status, "Pid": 1}, **changes}


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="edge-fake-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def fake(directory: Path) -> Iterator[FakePodman]:
    server = FakePodman(directory / "podman.sock")
    yield server
    server.close()


@pytest.fixture
def runtime(directory: Path) -> PodmanRuntime:
    return PodmanRuntime(
        PodmanConfig(
            socket=str(directory / "podman.sock"),
            request_timeout=TIMEOUT,
            pull_timeout=TIMEOUT,
            exit_timeout=0.2,
        ),
        directory / "pause",
    )


CONFIG = ContainerConfig(name="c", image="a:1", labels={})
CALLS: Sequence[Callable[[PodmanRuntime], object]] = (
    lambda runtime: runtime.info(),
    lambda runtime: runtime.list_containers(),
    lambda runtime: runtime.find_image("a:1"),
    lambda runtime: runtime.pull_image("a:1", None),
    lambda runtime: runtime.create_container(CONFIG),
    lambda runtime: runtime.start_container(ID),
    lambda runtime: runtime.signal_container(ID),
    lambda runtime: runtime.stop_container(ID, 0),
    lambda runtime: runtime.wait_container(ID),
    lambda runtime: runtime.remove_container(ID),
    lambda runtime: runtime.exec_container(ID, ["true"], 1),
    lambda runtime: runtime.reopen_log(ID),
    lambda runtime: runtime.list_images(),
    lambda runtime: runtime.remove_image(ID),
    lambda runtime: runtime.storage_path(),
    lambda runtime: runtime.container_sizes(),
)
NAMES = (
    *("info", "list", "find", "pull", "create", "start", "signal", "stop", "wait", "remove"),
    *("exec", "reopen", "images", "rmi", "storage", "sizes"),
)
every_call = pytest.mark.parametrize("call", CALLS, ids=NAMES)


@every_call
def test_an_absent_socket_is_named_with_what_to_do(
    runtime: PodmanRuntime, directory: Path, call: Callable[[PodmanRuntime], object]
) -> None:
    with pytest.raises(TemporaryError, match=r"podman\.sock does not exist; .*podman\.socket") as caught:
        call(runtime)
    assert str(directory) in str(caught.value)
    assert caught.value.reason == "RuntimeUnavailable"


def test_a_socket_that_nobody_listens_on(runtime: PodmanRuntime, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "podman.sock"))
    with pytest.raises(TemporaryError, match=r"nothing listens on .*systemctl restart"):
        runtime.info()


@every_call
def test_silence_ends_with_the_timeout(
    runtime: PodmanRuntime, fake: FakePodman, call: Callable[[PodmanRuntime], object]
) -> None:
    fake.answer(silent)
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"within 0\.5 s"):
        call(runtime)
    assert time.monotonic() - begun < TIMEOUT * 3
    assert len(fake.requests) == 1, "a request that timed out is not repeated: it may still be at work"


def test_a_trickle_ends_with_the_timeout(runtime: PodmanRuntime, fake: FakePodman) -> None:
    fake.answer(trickle)
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"within 0\.5 s"):
        runtime.list_containers()
    assert time.monotonic() - begun < TIMEOUT * 3


def test_a_body_without_an_end_is_not_read_to_it(
    runtime: PodmanRuntime, fake: FakePodman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 200_000)
    fake.answer(endless)
    with pytest.raises(TemporaryError, match="larger than 200000 bytes"):
        runtime.list_containers()


@every_call
def test_status_500_is_temporary_and_says_what_podman_said(
    runtime: PodmanRuntime, fake: FakePodman, call: Callable[[PodmanRuntime], object]
) -> None:
    fake.answer(error(500, "database is locked", "beginning transaction: database is locked"))
    with pytest.raises(TemporaryError, match="database is locked"):
        call(runtime)


def test_an_error_in_no_form_is_shown_shortened(runtime: PodmanRuntime, fake: FakePodman) -> None:
    fake.answer(http(502, b"<html>\xff bad gateway" + b"." * 10_000))
    with pytest.raises(TemporaryError, match="bad gateway") as caught:
        runtime.list_containers()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[{"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n[{"),
        raw(b"HTTP/1.1 200 OK\r\nContent-"),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        raw(b"\x00\xff" * 1000),
        http(200, b"not JSON"),
        http(200, b"[" * 100_000),
        http(200, b'"\xff"'),
        http(200, {"Id": "not a list"}),
        http(200, [{"Id": 5}]),
        http(301, b"", "Location: /elsewhere"),
    ],
)
def test_an_answer_cut_short_or_garbage(runtime: PodmanRuntime, fake: FakePodman, answer: Handler) -> None:
    fake.answer(answer)
    with pytest.raises(TemporaryError, match=str(fake.path)):
        runtime.list_containers()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 X\r\n"]),
)
def test_any_bytes_are_an_error_or_an_answer(
    runtime: PodmanRuntime, fake: FakePodman, data: bytes, start: bytes
) -> None:
    fake.answer(raw(start + data))
    with contextlib.suppress(EdgeAgentError):  # and no other
        assert runtime.list_containers() == []


def test_each_request_has_its_own_connection(runtime: PodmanRuntime, fake: FakePodman) -> None:
    """Even where the server would keep it, as this one does: its end comes with the other side's alone."""

    def keep(connection: socket.socket, request: bytes) -> None:
        http(200, [])(connection, request)
        assert connection.recv(65536) == b"", "a second request, or none within the time"

    fake.answer(keep)
    for _ in range(3):
        assert runtime.list_containers() == []
    assert all(b"Connection: close" in request for request in fake.requests)
    assert len(fake.requests) == 3


def test_a_lost_connection_is_tried_once_more(runtime: PodmanRuntime, fake: FakePodman) -> None:
    """As when the service exits, its time being up, at the moment it is asked."""
    fake.answer(hang_up, http(200, []))
    assert runtime.list_containers() == []
    fake.answer(hang_up)
    with pytest.raises(TemporaryError, match="broke off"):
        runtime.list_containers()
    assert len(fake.requests) == 2


def test_a_start_is_not_sent_twice(runtime: PodmanRuntime, fake: FakePodman) -> None:
    """The first one may have run the container to its end."""
    fake.answer(http(200, container("created")), hang_up)
    with pytest.raises(TemporaryError) as caught:
        runtime.start_container(ID)
    assert type(caught.value) is TemporaryError
    assert len(fake.requests) == 2  # the look before, and one start


def test_a_fresh_container_is_started_without_a_look_and_then_with_one(
    runtime: PodmanRuntime, fake: FakePodman
) -> None:
    fake.answer(
        http(201, {"Id": ID, "Warnings": ["limit discarded"]}),
        error(500, "disk full"),
        http(200, container()),
    )
    created = runtime.create_container(CONFIG)
    assert (created.id, created.state) == (ID, "created")
    with pytest.raises(TemporaryError, match="disk full"):
        runtime.start_container(created.id)
    assert runtime.start_container(created.id).state == "running"
    assert [request.split()[0] for request in fake.requests] == [b"POST", b"POST", b"GET"]


def test_a_name_that_only_podmans_storage_knows_is_freed(runtime: PodmanRuntime, fake: FakePodman) -> None:
    in_use = error(500, "that name is already in use")
    fake.answer(in_use, error(404, "no such container"), http(200, []), http(201, {"Id": ID}))
    assert runtime.create_container(CONFIG).id == ID
    assert [request.split()[0] for request in fake.requests] == [b"POST", b"GET", b"DELETE", b"POST"]


def test_the_wrong_architecture_is_permanent(runtime: PodmanRuntime, fake: FakePodman) -> None:
    fake.answer(
        http(200, container("created")), error(500, "OCI runtime error", "crun: exec: Exec format error")
    )
    with pytest.raises(PermanentError, match="Exec format error"):
        runtime.start_container(ID)


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b'{"stream":"Trying"}\n{"error":"unauthorized"}\n'),  # Podman 4 and 5
        error(401, "unauthorized"),  # later ones
    ],
)
def test_a_pull_error_in_either_form(runtime: PodmanRuntime, fake: FakePodman, answer: Handler) -> None:
    fake.answer(answer)
    with pytest.raises(TemporaryError, match="could not pull a:1: unauthorized") as caught:
        runtime.pull_image("a:1", None)
    assert caught.value.reason == "ErrImagePull"


def test_credentials_travel_in_the_header_alone(runtime: PodmanRuntime, fake: FakePodman) -> None:
    fake.answer(http(200, {"id": ID}), http(200, {"Id": ID, "User": "web"}))
    pulled = runtime.pull_image("a:1", PullCredentials(username="ü", password="p?>~"))
    assert (pulled.id, pulled.reference, pulled.user) == (ID, "a:1", "web")
    line, *headers = fake.requests[0].decode().split("\r\n")
    assert line.startswith("POST /v4.3.0/libpod/images/pull?reference=a%3A1&quiet=true ")
    (sent,) = [header.split(": ")[1] for header in headers if header.startswith("X-Registry-Auth")]
    assert msgspec.json.decode(base64.urlsafe_b64decode(sent)) == {"username": "ü", "password": "p?>~"}


def test_a_pull_that_names_no_image(runtime: PodmanRuntime, fake: FakePodman) -> None:
    fake.answer(http(200, b"{}\n"))
    with pytest.raises(TemporaryError, match="names no image"):
        runtime.pull_image("a:1", None)


def test_a_container_removed_while_listing_is_left_out(runtime: PodmanRuntime, fake: FakePodman) -> None:
    item = {"Id": ID, "Names": ["c"], "State": "exited"}
    fake.answer(http(200, [item]), error(404, "no such container"))
    assert runtime.list_containers() == []


def test_a_container_that_still_runs_cannot_be_waited_for(runtime: PodmanRuntime, fake: FakePodman) -> None:
    fake.answer(http(200, container()))
    with pytest.raises(TemporaryError, match="still runs, as process 1"):
        runtime.wait_container(ID)


def test_a_process_that_ends_under_an_inspection_is_looked_at_again(
    runtime: PodmanRuntime, fake: FakePodman
) -> None:
    ending = error(500, "no such process", "read /proc/4711/cgroup: no such process")
    fake.answer(ending, ending, http(200, container("exited")))
    assert runtime.wait_container("c1").state == "exited"
    assert len(fake.requests) == 3


SESSION = "cd" * 32
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"


def test_an_exec_session_is_removed_where_podman_can(runtime: PodmanRuntime, fake: FakePodman) -> None:
    """Podman 4.9 and later, which the tests with a real one do not have."""
    fake.answer(
        http(201, {"Id": SESSION}),
        raw(STREAM + b"\1\0\0\0\0\0\0\2hi"),
        http(200, {"Running": False, "ExitCode": 3}),
        http(200, b""),
    )
    result = runtime.exec_container(ID, ["x"], 5)
    assert (result.exit_code, result.output) == (3, b"hi")
    paths = [request.split()[1].decode().partition("/libpod/")[2] for request in fake.requests]
    assert paths == [
        f"containers/{ID}/exec",
        f"exec/{SESSION}/start",
        f"exec/{SESSION}/json",
        f"exec/{SESSION}/remove",
    ]
    assert fake.requests[-1].endswith(b'{"Force":true}')


@pytest.mark.parametrize(
    "answer",
    [
        raw(STREAM + b"not in frames"),
        raw(b"SSH-2.0\r\n\r\n"),
        raw(b"HTTP/1.1 200"),
        hang_up,
        raw(b"x" * 20_000),
    ],
)
def test_a_stream_that_is_none(runtime: PodmanRuntime, fake: FakePodman, answer: Handler) -> None:
    fake.answer(http(201, {"Id": SESSION}), answer, http(200, {"CanRemove": True}))
    with pytest.raises(TemporaryError) as caught:
        runtime.exec_container(ID, ["x"], 5)
    assert caught.value.reason == "RuntimeUnavailable"
    assert b"/remove" in fake.requests[-1]


def test_a_session_whose_process_is_elsewhere_is_left_alone(runtime: PodmanRuntime, fake: FakePodman) -> None:
    """A command out of time is killed only where it is in the container's cgroup."""

    def begin(connection: socket.socket, request: bytes) -> None:
        connection.sendall(STREAM)
        silent(connection, request)

    fake.answer(http(201, {"Id": SESSION}), begin, http(200, {"Running": True, "Pid": os.getpid()}))
    assert runtime.exec_container(ID, ["x"], 0.1).timed_out


@pytest.mark.parametrize("answer", [error(409, "x"), error(500, "container state improper"), error(404, "x")])
def test_a_container_that_ended_before_its_command(
    runtime: PodmanRuntime, fake: FakePodman, answer: Handler
) -> None:
    for handlers in ([answer], [http(201, {"Id": SESSION}), answer, http(200, b"")]):
        fake.answer(*handlers)
        with pytest.raises(TemporaryError) as caught:
            runtime.exec_container(ID, ["x"], 5)
        assert caught.value.reason == "ContainerNotRunning"
