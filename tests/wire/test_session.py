"""The MQTT session on a real Mosquitto."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.wire.pahosocket import SEND_WINDOW
from edgeagent.wire.session import PACKET_OVERHEAD, Message, Will
from tests.conftest import MosquittoFactory
from tests.support.broker import Mosquitto, TlsMaterial, tls_material
from tests.support.proc import free_port
from tests.support.waiting import wait_for_async
from tests.wire.sessions import Recorder, here, running


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsMaterial:
    return tls_material(tmp_path_factory.mktemp("tls"), ["client"])


def test_messages_come_as_they_were_sent(mosquitto: Mosquitto) -> None:
    async def run() -> None:
        one, two = Recorder(here(mosquitto.port), client_id="one"), Recorder(here(mosquitto.port))
        async with running(one, two):
            assert (await one.connected()).version == 5
            await two.connected()
            await one.session.publish("t/kept", b"old", retain=True)
            await two.session.subscribe(["t/#", "u/+"])
            assert await two.message() == Message("t/kept", b"old", retain=True)
            await one.session.publish("u/x", b"\x00\xff", response_topic="r", correlation=b"\x01\x02")
            assert await two.message(2) == Message("u/x", b"\x00\xff", False, "r", b"\x01\x02")
            await one.session.publish("t/empty", b"")
            assert (await two.message(3)).payload == b""
            await two.session.unsubscribe(["t/#"])
            await one.session.publish("t/unheard", b"")
            await one.session.publish("u/y", b"")
            assert (await two.message(4)).topic == "u/y"
        assert one.reasons == two.reasons == ["stopped"]

    asyncio.run(run())


def test_without_a_connection_nothing_is_sent() -> None:
    async def run() -> None:
        recorder = Recorder(here(free_port()))
        with pytest.raises(TemporaryError, match="not connected"):
            await recorder.session.publish("t", b"")
        async with running(recorder):
            assert "Connection refused" in await recorder.reason()
            for call in (recorder.session.subscribe(["t"]), recorder.session.unsubscribe(["t"])):
                with pytest.raises(TemporaryError, match="not connected"):
                    await call

    asyncio.run(run())


@pytest.mark.parametrize("expiry", [0, 3600])
def test_mutual_tls(mosquitto_factory: MosquittoFactory, tls: TlsMaterial, expiry: int) -> None:
    """Also: many small messages in one TLS record, and messages of many records, all arrive."""
    broker = mosquitto_factory(tls=tls, options={"max_queued_messages": "0"})

    async def run() -> None:
        context = tls.client_context("client")
        address = here(broker.port, tls=True, host="localhost")
        recorder = Recorder(address, tls=context, session_expiry=expiry)
        async with running(recorder):
            await recorder.connected()
            await recorder.session.subscribe(["t/#"])
            many = [recorder.session.publish(f"t/{n}", b"%d" % n) for n in range(500)]
            await asyncio.gather(*many)
            large = bytes(range(256)) * 900
            await recorder.session.publish("t/large", large)
            await recorder.message(501)
            assert [m.payload for m in recorder.messages] == [b"%d" % n for n in range(500)] + [large]

    asyncio.run(run())


def test_a_certificate_that_the_broker_refuses(
    mosquitto_factory: MosquittoFactory, tls: TlsMaterial, tmp_path: Path
) -> None:
    broker = mosquitto_factory(tls=tls)
    stranger = tls_material(tmp_path, ["client"])

    async def run() -> None:
        foreign, none = tls.client_context(), tls.client_context()
        foreign.load_cert_chain(stranger.clients["client"].cert, stranger.clients["client"].key)
        for context in (foreign, none):
            recorder = Recorder(here(broker.port, tls=True), tls=context)
            async with running(recorder):
                await recorder.reason(3)
            assert all("(does it accept this client's certificate?)" in r for r in recorder.reasons[:3])
            assert recorder.connections == []

    asyncio.run(run())


def test_a_broker_that_we_refuse(
    mosquitto_factory: MosquittoFactory, tls: TlsMaterial, tmp_path: Path
) -> None:
    broker = mosquitto_factory(tls=tls)
    other = tls_material(tmp_path, ["client"])

    async def run() -> None:
        wrong_ca = Recorder(here(broker.port, tls=True), tls=other.client_context("client"))
        wrong_name = Recorder(here(broker.port, tls=True, host="127.0.0.2"), tls=tls.client_context("client"))
        no_tls_there = Recorder(here(free_port(), tls=True))
        async with running(wrong_ca, wrong_name, no_tls_there):
            assert "TLS failed: CERTIFICATE_VERIFY_FAILED" in await wrong_ca.reason()
            assert "refused" in await wrong_name.reason()
            assert "no certificate is configured" in await no_tls_there.reason()

    asyncio.run(run())


def test_addresses_are_tried_in_turn(mosquitto: Mosquitto) -> None:
    async def run() -> None:
        addresses = [
            here(free_port()),
            here(1, host="no.such.host.invalid"),
            here(1, host="label" * 20 + ".x"),
            here(70_000),
            here(mosquitto.port, host="localhost"),
        ]
        recorder = Recorder(*addresses)
        async with running(recorder):
            assert (await recorder.connected()).address == addresses[-1]
            assert len(recorder.reasons) == 4
            assert recorder.reasons[0] == f"127.0.0.1:{addresses[0].port}: Connection refused"

    asyncio.run(run())


@pytest.mark.parametrize("hard", [False, True])
def test_a_broker_that_restarts(mosquitto_factory: MosquittoFactory, hard: bool) -> None:
    broker = mosquitto_factory(persistence=True)

    async def run() -> None:
        recorder = Recorder(here(broker.port), session_expiry=600)
        async with running(recorder):
            assert (await recorder.connected()).session_present is False
            await recorder.session.subscribe(["t"])
            under_way = [asyncio.create_task(recorder.session.publish("x", bytes(9000))) for _ in range(100)]
            await asyncio.sleep(0)
            await asyncio.to_thread(broker.kill if hard else broker.stop)
            reason = await recorder.reason()
            ends = await asyncio.gather(*under_way, return_exceptions=True)
            assert all(end is None or isinstance(end, TemporaryError) for end in ends)
            assert "connection lost" in reason or "closed the session" in reason
            with pytest.raises(TemporaryError):
                await recorder.session.publish("x", b"")
            await asyncio.to_thread(broker.start)
            again = await recorder.connected(2)
            assert again.session_present is not hard
            await recorder.session.subscribe(["t"])
            await recorder.session.publish("t", b"back")
            assert (await recorder.message()).payload == b"back"

    asyncio.run(run())


def test_what_a_kept_session_was_sent_comes_after_on_connect(mosquitto: Mosquitto) -> None:
    async def run() -> None:
        recorder, sender = (
            Recorder(here(mosquitto.port), session_expiry=600),
            Recorder(here(mosquitto.port), client_id="s"),
        )
        order: list[str] = []
        recorder.session._on_connect = lambda _: order.append("connected")
        recorder.session._on_message = lambda message: order.append(
            f"{message.topic} {recorder.session.connection is not None}"
        )
        async with running(recorder):
            await wait_for_async(lambda: order)
            await recorder.session.subscribe(["t/#"])
        async with running(sender):
            await sender.connected()
            for number in range(3):
                await sender.session.publish(f"t/{number}", b"")
        async with running(recorder):
            await wait_for_async(lambda: len(order) == 5)
        assert order[1:] == ["connected", "t/0 True", "t/1 True", "t/2 True"]

    asyncio.run(run())


def test_the_brokers_packet_limit(mosquitto_factory: MosquittoFactory) -> None:
    broker = mosquitto_factory(options={"max_packet_size": "1000"})

    async def run() -> None:
        recorder = Recorder(here(broker.port))
        async with running(recorder):
            limit = (await recorder.connected()).payload_limit
            assert limit == 1000 - PACKET_OVERHEAD
            await recorder.session.publish("t", bytes(limit))
            await recorder.session.publish("t" * 400, bytes(limit))
            for topic, size in (("t", limit + 1), ("t" * 600, limit), ("t", 300_000)):
                with pytest.raises(PermanentError, match="more than the broker's limit") as error:
                    await recorder.session.publish(topic, bytes(size))
                assert error.value.reason == "PacketTooLarge"
            filters = [f"a/long/filter/with/a/number/{n}" for n in range(100)]
            await recorder.session.subscribe(filters)
            await recorder.session.publish(filters[99], b"x")
            await recorder.message()
            await recorder.session.unsubscribe(filters)
        assert recorder.reasons == ["stopped"]

    asyncio.run(run())


def test_the_brokers_receive_maximum(mosquitto_factory: MosquittoFactory) -> None:
    broker = mosquitto_factory(options={"max_inflight_messages": "2"})

    async def run() -> None:
        recorder = Recorder(here(broker.port))
        async with running(recorder):
            await recorder.connected()
            await asyncio.gather(*(recorder.session.publish("t", b"%d" % n) for n in range(200)))
            assert recorder.session._link is not None
            assert recorder.session._link.client.max_inflight_messages == min(2, SEND_WINDOW)
        assert recorder.reasons == ["stopped"]

    asyncio.run(run())


def test_the_brokers_keep_alive_is_kept_to(mosquitto_factory: MosquittoFactory) -> None:
    broker = mosquitto_factory(extra=["max_keepalive 10"])

    async def run() -> None:
        recorder = Recorder(here(broker.port), keepalive=3600)
        async with running(recorder):
            await recorder.connected()
            assert recorder.session._link is not None
            assert recorder.session._link.client.keepalive == 10

    asyncio.run(run())


@pytest.mark.slow
def test_an_idle_connection_lasts(mosquitto: Mosquitto) -> None:
    """With the shortest keep-alive that Mosquitto takes literally: two PINGREQ and their answers."""

    async def run() -> None:
        recorder = Recorder(here(mosquitto.port), keepalive=5)
        async with running(recorder):
            await recorder.connected()
            await wait_for_async(
                lambda: mosquitto.log_text().count("Sending PINGRESP to client") >= 2, timeout=30
            )
        assert recorder.reasons == ["stopped"]

    asyncio.run(run())


def test_the_will_tells_of_every_leave(mosquitto: Mosquitto) -> None:
    async def run() -> None:
        watcher = Recorder(here(mosquitto.port), client_id="watcher")
        leaver = Recorder(here(mosquitto.port), will=Will("will", b"gone"))
        async with running(watcher):
            await watcher.connected()
            await watcher.session.subscribe(["will", "after"])
            async with running(leaver):
                await leaver.connected()
            async with running(leaver):
                await leaver.connected(2)
                assert (await watcher.message()).payload == b"gone"
                link = leaver.session._link
                assert link is not None
                link.client.close()
                assert (await watcher.message(2)).payload == b"gone"

    asyncio.run(run())


def test_a_session_that_is_taken_over(mosquitto: Mosquitto) -> None:
    async def run() -> None:
        one, two = (
            Recorder(here(mosquitto.port), reconnect_first=60.0, reconnect_ceiling=60.0),
            Recorder(here(mosquitto.port)),
        )
        async with running(one):
            await one.connected()
            async with running(two):
                await two.connected()
                assert await one.reason()  # Mosquitto 2.0 says nothing, newer ones do
                assert one.session.connection is None

    asyncio.run(run())


def test_topics_that_are_not_allowed(mosquitto_factory: MosquittoFactory, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite mine/#\n")
    acl.chmod(0o644)
    broker = mosquitto_factory(options={"acl_file": str(acl)})

    async def run() -> None:
        recorder = Recorder(here(broker.port))
        async with running(recorder):
            await recorder.connected()
            await recorder.session.subscribe(["mine/a"])
            with pytest.raises(PermanentError, match="the broker refused yours: Not authorized"):
                await recorder.session.publish("yours", b"")
            await recorder.session.publish("mine/a", b"still here")
            await recorder.message()

    asyncio.run(run())


def test_a_receiver_that_raises_is_not_the_end(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        recorder = Recorder(here(mosquitto.port))
        heard: list[bytes] = []

        def receive(message: Message) -> None:
            heard.append(message.payload)
            raise ValueError("a bug")

        recorder.session._on_message = receive
        async with running(recorder):
            await recorder.connected()
            await recorder.session.subscribe(["t"])
            for number in range(3):
                await recorder.session.publish("t", b"%d" % number)
            await wait_for_async(lambda: len(heard) == 3)
        assert recorder.reasons == ["stopped"]

    asyncio.run(run())
    assert caplog.text.count("a message on t could not be handled") == 3


def test_publishing_may_be_given_up(mosquitto: Mosquitto) -> None:
    """An acknowledgement that nobody waits for any more is not taken for another's."""

    async def run() -> None:
        recorder = Recorder(here(mosquitto.port))
        async with running(recorder):
            await recorder.connected()
            for _ in range(50):
                task = asyncio.create_task(recorder.session.publish("t", b""))
                await asyncio.sleep(0)
                task.cancel()
            await recorder.session.publish("t", b"")
            assert recorder.session._link is not None
            assert recorder.session._link.acks == {}
            assert recorder.session.connection is not None

    asyncio.run(run())


def test_no_thread_and_no_wake_up_while_idle(mosquitto: Mosquitto) -> None:
    async def run() -> None:
        recorder = Recorder(here(mosquitto.port))
        before = threading.active_count()
        async with running(recorder):
            await recorder.connected()
            loop = asyncio.get_running_loop()
            timers = [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
            assert [round(timer.when() - loop.time()) for timer in timers] == [120]
            assert threading.active_count() == before
            assert loop._default_executor is None  # type: ignore[attr-defined]

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < 5
