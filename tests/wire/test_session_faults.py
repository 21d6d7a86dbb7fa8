"""The MQTT session with brokers that a real Mosquitto cannot be made to be."""

import asyncio
import gc
import itertools
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.wire import dial
from edgeagent.wire import session as session_module
from edgeagent.wire.pahosocket import MAX_PACKET_BYTES, SocketDriver
from tests.support.broker import tls_material
from tests.support.waiting import wait_for_async
from tests.wire.sessions import (
    CONNACK_3,
    CONNACK_5,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    Recorder,
    Scripted,
    Wire,
    here,
    publish,
    remaining,
    running,
)

Script = Callable[[Wire], Awaitable[None]]


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> None:
    """With warnings as errors, a socket that was left open fails the test it was left by."""
    gc.collect()


async def reason_of(script: Script, number: int = 1, **config: int) -> str:
    async with Scripted(script) as server:
        recorder = Recorder(here(server.port), **config)  # type: ignore[arg-type]
        async with running(recorder):
            reason = await recorder.reason(number)
        assert recorder.connections == [] or recorder.session.connection is None
    gc.collect()
    return reason.removeprefix(f"127.0.0.1:{server.port}: ")


def answering(data: bytes, *, then_close: bool = False) -> Script:
    """Read CONNECT, say ``data``, and wait for the client to go (or hang up)."""

    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(data)
        if not then_close:
            await wire.gone()

    return script


@pytest.mark.parametrize(
    ("connack", "reason"),
    [
        (b"\x20\x03\x00\x89\x00", "refused: Server busy"),
        (b"\x20\x03\x00\x88\x00", "refused: Server unavailable"),
        (b"\x20\x03\x00\x87\x00", "refused: Not authorized"),
        (b"\x20\x03\x00\x86\x00", "refused: Bad user name or password"),
        (b"\x20\x03\x00\x85\x00", "refused: Client identifier not valid"),
        (b"\x20\x03\x00\x9f\x00", "refused: Connection rate exceeded"),
        (b"\x20\x03\x00\x8a\x00", "refused: Banned"),
    ],
)
def test_connect_is_refused_with_a_reason(connack: bytes, reason: str) -> None:
    assert asyncio.run(reason_of(answering(connack))) == reason


MALFORMED = "the broker sent a malformed packet"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n" + b"Connection: close\r\n" * 9,
        b"\x20\x01\x00",  # CONNACK without a reason code
        b"\x20\x03\x00\x77\x00",  # with a reason code that there is not
        b"\x20\x05\x00\x00\x02\x21\x00",  # with half a property
        b"\x20\x04\x00\x00\x01\xfe",  # with an unknown property
        b"\x20\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\xf0\x00",
        publish("t", b"a message of no session"),
    ],
    ids=lambda data: data[:6].hex(),
)
def test_garbage_instead_of_an_answer(data: bytes) -> None:
    assert asyncio.run(reason_of(answering(data))) == MALFORMED


@pytest.mark.parametrize(
    "data",
    [
        b"\x40\x02\x00",  # cut short below, by the end of the connection
        b"\x40\x00",
        b"\x40\x03\x00\x01\x55",
        b"\x90\x01\x00",
        b"\xb0\x01\x00",
        b"\x30\x01\x00",
        b"\x30\x05\x00\x09topic",
        b"\x30\x06\x00\x01t\x05\x08\x00",
        b"\x20\x01\x00",
        b"\x10\x00",
        b"\xd0\x01\x00",
        b"\xd0\x00",  # PINGRESP, for which nobody asked
        # paho takes properties apart in a time that grows with the square of their number.
        b"\x30"
        + remaining(700_006)
        + b"\x00\x01t"
        + remaining(700_000)
        + b"\x26\x00\x01a\x00\x01b" * 100_000,
        b"\x40" + remaining(700_006) + b"\x00\x01\x00" + remaining(700_000) + bytes(700_000),
        b"\x34\x06\x00\x01t\x00\x01\x00",  # QoS 2, which nobody asked for, and which would have to be kept
    ],
    ids=lambda data: data[:8].hex(),
)
def test_garbage_later(data: bytes) -> None:
    """The connection is given up: no busy loop over a packet that cannot be parsed, no exception lost."""
    truncated = data == b"\x40\x02\x00"
    reason = asyncio.run(reason_of(answering(CONNACK_5 + data, then_close=truncated), number=1))
    assert reason == ("connection lost" if truncated else MALFORMED)


def test_a_topic_that_is_not_utf8_is_passed_over() -> None:
    async def run() -> None:
        odd = publish("x").replace(b"x", b"\xff")
        async with Scripted(answering(CONNACK_5 + odd + publish("t", b"good"))) as server:
            recorder = Recorder(here(server.port))
            async with running(recorder):
                assert (await recorder.message()).payload == b"good"
                assert len(recorder.messages) == 1

    asyncio.run(run())


def test_hanging_up() -> None:
    async def at_once(wire: Wire) -> None:
        return

    unanswered = "the broker hung up before it answered CONNECT"
    assert asyncio.run(reason_of(answering(b"", then_close=True))) == unanswered
    assert asyncio.run(reason_of(answering(b"\x20", then_close=True))) == unanswered
    assert asyncio.run(reason_of(at_once)) in (unanswered, "[Errno 104] Connection reset by peer")
    assert asyncio.run(reason_of(answering(CONNACK_5, then_close=True))) == "connection lost"
    half = b"\x30" + remaining(5000) + b"\x00\x01t\x00" + bytes(99)
    assert asyncio.run(reason_of(answering(CONNACK_5 + half, then_close=True))) == "connection lost"


@pytest.mark.parametrize("body", [b"\x8b\x00", b"\x8b", b"\x8b\x05\x1f\x00\x02hi"])
def test_the_broker_says_goodbye(body: bytes) -> None:
    data = CONNACK_5 + b"\xe0" + remaining(len(body)) + body
    reason = asyncio.run(reason_of(answering(data)))
    assert reason == "the broker closed the session: Server shutting down"


def test_a_packet_beyond_what_we_said_we_take_is_not_collected() -> None:
    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(CONNACK_5 + b"\x30" + remaining(200_000_000) + bytes(1000))
        await wire.gone()

    assert asyncio.run(reason_of(script)) == f"the broker sent a packet of more than {MAX_PACKET_BYTES} bytes"


def short(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(session_module, "CONNECT_SECONDS", seconds)


def test_a_broker_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    short(monkeypatch, 0.2)
    assert "the broker did not answer CONNECT in" in asyncio.run(reason_of(answering(b""), number=2))


@pytest.mark.parametrize("phase", ["handshake", "answer", "name"])
def test_stopping_while_connecting_hangs(phase: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the task nor the program waits for whoever does not answer, and nothing stays open."""
    context = tls_material(tmp_path, ["client"]).client_context("client")
    asked = asyncio.Event()
    loop: asyncio.AbstractEventLoop | None = None
    if phase == "name":
        never = socket.socketpair()

        def resolve(host: str, port: int, flags: int) -> dial._AddressInfo:
            if flags:
                raise socket.gaierror(socket.EAI_NONAME, "a name")
            assert loop is not None
            loop.call_soon_threadsafe(asked.set)
            never[0].recv(1)
            raise OSError("late")

        monkeypatch.setattr(dial, "_resolve_host", resolve)

    async def script(wire: Wire) -> None:
        await wire.reader.readexactly(1)
        asked.set()
        await wire.gone()

    async def run() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port, tls=phase == "handshake"), tls=context)
            async with running(recorder):
                await asyncio.wait_for(asked.wait(), 10)
            assert recorder.reasons == ["stopped"]

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 5
    if phase == "name":
        never[1].close()
        never[0].close()
    gc.collect()


def test_a_handshake_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short(monkeypatch, 0.2)

    async def script(wire: Wire) -> None:
        await wire.gone()

    async def run() -> None:
        async with Scripted(script) as server:
            context = tls_material(tmp_path, ["client"]).client_context("client")
            recorder = Recorder(here(server.port, tls=True), tls=context)
            async with running(recorder):
                assert "no connection in" in await recorder.reason(2)

    asyncio.run(run())
    gc.collect()


def test_a_server_that_does_not_speak_tls(tmp_path: Path) -> None:
    async def script(wire: Wire) -> None:
        await wire.reader.read(1)
        await wire.send(b"220 hello\r\n")
        await wire.gone()

    async def run() -> str:
        async with Scripted(script) as server:
            context = tls_material(tmp_path, ["client"]).client_context("client")
            recorder = Recorder(here(server.port, tls=True), tls=context)
            async with running(recorder):
                return await recorder.reason()

    assert "TLS failed: " in asyncio.run(run())
    gc.collect()


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00"])
def test_a_broker_of_mqtt_3_is_spoken_to_in_mqtt_3(refusal: bytes) -> None:
    """And each time anew: a broker that was upgraded is spoken to in MQTT 5."""
    upgraded = False

    async def script(wire: Wire) -> None:
        hello = await wire.expect(CONNECT)
        if hello[6] == 5 and not upgraded:
            await wire.send(refusal)
            return
        await wire.send(CONNACK_5 if hello[6] == 5 else CONNACK_3)
        if hello[6] == 4:
            assert hello[7] & 2  # clean session
            mid = (await wire.expect(SUBSCRIBE))[:2]
            await wire.send(b"\x90\x04" + mid + b"\x01\x80")
            body = await wire.expect(PUBLISH)
            await wire.send(b"\x40\x02" + body[3:5])
            return
        await wire.gone()

    async def run() -> None:
        nonlocal upgraded
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port), session_expiry=60)
            async with running(recorder):
                assert (await recorder.connected()).version == 3
                assert recorder.reasons == []
                upgraded = True
                with pytest.raises(PermanentError, match="the broker refused b"):
                    await recorder.session.subscribe(["a", "b"])
                await recorder.session.publish("t", b"", response_topic="r", correlation=b"c")
                assert (await recorder.connected(2)).version == 5

    asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "error"),
    [(0x97, TemporaryError), (0x80, TemporaryError), (0x87, PermanentError)],
)
def test_a_publication_is_refused(code: int, error: type[Exception]) -> None:
    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(CONNACK_5)
        body = await wire.expect(PUBLISH)
        await wire.send(b"\x40\x03" + body[3:5] + bytes([code]))
        mid = (await wire.expect(SUBSCRIBE))[:2]
        await wire.send(b"\x90\x04" + mid + b"\x00" + bytes([code]))
        await wire.gone()

    async def run() -> None:
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port))
            async with running(recorder):
                await recorder.connected()
                with pytest.raises(error, match=" t: "):
                    await recorder.session.publish("t", b"")
                with pytest.raises(error, match=" f: "):
                    await recorder.session.subscribe(["f"])
            assert recorder.reasons == ["stopped"]

    asyncio.run(run())


def test_no_more_publications_are_under_way_than_the_broker_takes() -> None:
    rounds: list[int] = []

    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(b"\x20\x06\x00\x00\x03\x21\x00\x03")  # Receive Maximum 3
        left = 10
        while left:
            waiting = [(await wire.expect(PUBLISH))[3:5]]
            while True:
                try:
                    waiting.append((await asyncio.wait_for(wire.expect(PUBLISH), 0.1))[3:5])
                except TimeoutError:
                    break
            rounds.append(len(waiting))
            left -= len(waiting)
            await wire.send(b"".join(b"\x40\x02" + mid for mid in waiting))
        await wire.gone()

    async def run() -> None:
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port))
            async with running(recorder):
                await recorder.connected()
                # One that is given up still counts, for the broker knows nothing of it.
                given_up = asyncio.create_task(recorder.session.publish("t", b"x"))
                await asyncio.sleep(0)
                given_up.cancel()
                await asyncio.gather(*(recorder.session.publish("t", b"x") for _ in range(9)))

    asyncio.run(run())
    assert rounds == [3, 3, 3, 1]


def test_keep_alive_is_all_that_an_idle_session_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three PINGREQ with keep-alive 1: a timer each, two bytes each, and then no answer to the last."""
    ticks = 0
    tick = SocketDriver._tick

    def counted(driver: SocketDriver) -> None:
        nonlocal ticks
        ticks += 1
        tick(driver)

    monkeypatch.setattr(SocketDriver, "_tick", counted)
    times: list[float] = []

    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # Server Keep Alive 1
        for number in range(3):
            await wire.expect(PINGREQ)
            times.append(time.monotonic())
            if number < 2:
                await wire.send(b"\xd0\x00")
        await wire.gone()

    reason = asyncio.run(reason_of(script, keepalive=3600))
    assert reason == "the broker does not answer keep-alive"
    assert ticks <= 5  # one for each PINGREQ, one for the last answer; one may come a moment early
    assert all(0.9 < later - earlier < 1.5 for earlier, later in itertools.pairwise(times))


def test_goodbye_is_said_even_with_much_unsent() -> None:
    said: list[int] = []

    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(CONNACK_5)
        while True:
            kind, _ = await wire.packet()
            said.append(kind)
            if kind == DISCONNECT:
                return

    async def run() -> None:
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port))
            async with running(recorder):
                await recorder.connected()
                sends = [asyncio.create_task(recorder.session.publish("t", bytes(100))) for _ in range(5)]
                await asyncio.sleep(0)
            ends = await asyncio.gather(*sends, return_exceptions=True)
            assert all(isinstance(end, TemporaryError) for end in ends)
            await wait_for_async(lambda: DISCONNECT in said)

    asyncio.run(run())


def test_a_broker_that_stops_reading_does_not_hold_up_the_end() -> None:
    stop = asyncio.Event()

    async def script(wire: Wire) -> None:
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await wire.expect(CONNECT)
        await wire.send(CONNACK_5)
        await stop.wait()

    async def run() -> None:
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port))
            async with running(recorder):
                await recorder.connected()
                sends = [
                    asyncio.create_task(recorder.session.publish("t", bytes(250_000))) for _ in range(60)
                ]
                link = recorder.session._link
                assert link is not None
                await wait_for_async(link.client.want_write)
            await asyncio.gather(*sends, return_exceptions=True)
            # The descriptor is free for others, and the loop knows it.
            other = Recorder(here(server.port))
            async with running(other):
                await other.connected()
            stop.set()

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 5
    gc.collect()


def test_no_tls_older_than_1_2(tmp_path: Path) -> None:
    from edgeagent.wire.tls import client_context

    tls = tls_material(tmp_path, ["client"])
    context = client_context(tls.ca.cert, tls.clients["client"].cert, tls.clients["client"].key)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_an_acknowledgement_of_another_kind_without_a_reason_breaks_nothing() -> None:
    """Whoever owns the broker can say that it took a message, whether it did or not."""

    async def script(wire: Wire) -> None:
        await wire.expect(CONNECT)
        await wire.send(CONNACK_5)
        body = await wire.expect(PUBLISH)
        await wire.send(b"\x90\x03" + body[3:5] + b"\x00")  # SUBACK
        await wire.gone()

    async def run() -> None:
        async with Scripted(script) as server:
            recorder = Recorder(here(server.port))
            async with running(recorder):
                await recorder.connected()
                await recorder.session.publish("t", b"x")

    asyncio.run(run())
