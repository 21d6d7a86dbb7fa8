"""Calls over a real broker, answered by a scripted hub: deadlines, order, and what an error tells."""

import asyncio
import gc
import os
import socket
import ssl
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.cli import hubconnection, operatorfile
from edgeagent.cli.hubclient import HubClient
from edgeagent.cli.hubconnection import HubUnreachableError
from edgeagent.cli.operatorfile import others_can_read, read_operator_file, tls_context
from edgeagent.wire.hubapi import GetResult, WatchEvent
from edgeagent.wire.join import BrokerAddress, OperatorFile
from edgeagent.wire.rpc import LogsParams, LogsResult, RpcError
from edgeagent.wire.tls import client_context
from tests.cli.running import a_pod, raw
from tests.cli.scripted import CLUSTER, USER, Call, ScriptedHub, operator, write_operator
from tests.conftest import MosquittoFactory
from tests.support.broker import Mosquitto, tls_material
from tests.support.proc import free_port
from tests.support.waiting import wait_for

T = TypeVar("T")


def item(name: str) -> msgspec.Raw:
    return msgspec.Raw(b'{"name":"%s"}' % name.encode())


def added(name: str) -> WatchEvent:
    return WatchEvent(type="ADDED", object=item(name))


async def with_hub(port: int, work: Any, **settings: Any) -> Any:
    async with HubClient(operator(port), **settings) as hub:
        return await work(hub)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def test_an_answer_in_one_part_and_in_several(mosquitto: Mosquitto) -> None:
    def answer(call: Call) -> None:
        if call.params["kind"] == "Node":
            call.reply(GetResult(items=[item("n")]))
            return
        call.reply(GetResult(items=[item("a")]), sequence=0, last=False)
        call.reply(GetResult(items=[item("a")]), sequence=0, last=False)  # QoS 1 may bring one twice
        call.reply(GetResult(items=[item("b")]), sequence=1)

    async def ask(hub: HubClient) -> tuple[list[msgspec.Raw], list[msgspec.Raw]]:
        return await asyncio.gather(hub.get("Node"), hub.get("Pod", namespace="x", labels={"a": "b"}))

    with ScriptedHub(mosquitto.port, answer) as hub:
        nodes, pods = run(with_hub(mosquitto.port, ask))
    assert [bytes(one) for one in nodes] == [b'{"name":"n"}']
    assert [bytes(one) for one in pods] == [b'{"name":"a"}', b'{"name":"b"}']
    assert {"kind": "Pod", "namespace": "x", "labels": {"a": "b"}} in [call.params for call in hub.calls]


def test_logs_are_bytes(mosquitto: Mosquitto) -> None:
    def answer(call: Call) -> None:
        if call.method == "get":
            call.reply(GetResult(items=[raw(a_pod())]))
            return
        assert call.target == "n1"
        call.reply(LogsResult(text=b"\xff\x00", truncated=True), last=False)
        call.reply(LogsResult(text=b"end"), sequence=1)

    async def ask(hub: HubClient) -> LogsResult:
        return await hub.logs(LogsParams(namespace="n", pod="p"))

    with ScriptedHub(mosquitto.port, answer):
        assert run(with_hub(mosquitto.port, ask)) == LogsResult(text=b"\xff\x00end", truncated=True)


def test_the_hubs_refusal_is_an_rpc_error(mosquitto: Mosquitto) -> None:
    with ScriptedHub(mosquitto.port, lambda call: call.fail(RpcError("NotFound", "not here"))):
        refused = pytest.raises(RpcError, match="not here")
        with refused as caught:
            run(with_hub(mosquitto.port, lambda hub: hub.get("Pod", name="x")))
    assert caught.value.reason == "NotFound"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"{", "answer cannot be read"),
        (
            b'{"result":{"itms":[]}}',
            r"answer to get cannot be read \(another version\?\): itms: unknown field",
        ),
        (b'{"result":null}', None),
    ],
)
def test_answers_that_are_none(mosquitto: Mosquitto, payload: bytes, problem: str | None) -> None:
    with ScriptedHub(mosquitto.port, lambda call: call.raw(payload)):
        if problem is None:
            assert run(with_hub(mosquitto.port, lambda hub: hub.get("Pod"))) == []
            with pytest.raises(PermanentError, match="with nothing"):
                run(with_hub(mosquitto.port, lambda hub: hub.apply([])))
        else:
            with pytest.raises(PermanentError, match=problem):
                run(with_hub(mosquitto.port, lambda hub: hub.get("Pod")))


def test_a_lost_answer_is_noticed(mosquitto: Mosquitto) -> None:
    def answer(call: Call) -> None:
        call.reply(GetResult(items=[]), sequence=0, last=False)
        call.reply(GetResult(items=[]), sequence=2)

    with ScriptedHub(mosquitto.port, answer), pytest.raises(TemporaryError, match="got lost") as caught:
        run(with_hub(mosquitto.port, lambda hub: hub.get("Pod")))
    assert caught.value.reason == "Gap"


def test_a_hub_that_is_not_there_is_told_from_a_broker_that_is_not(mosquitto: Mosquitto) -> None:
    began = time.monotonic()
    with pytest.raises(
        HubUnreachableError, match=r"did not answer 'get' within 0\.5s\. The broker 127.*`edgehub run`"
    ):
        run(with_hub(mosquitto.port, lambda hub: hub.get("Pod"), timeout=0.5))
    port = free_port()
    with pytest.raises(HubUnreachableError, match=f"no broker can be reached: 127.0.0.1:{port}: .*refused"):
        run(with_hub(port, lambda hub: hub.get("Pod")))
    assert time.monotonic() - began < 5


def test_the_second_broker_is_tried(mosquitto: Mosquitto) -> None:
    async def ask() -> list[msgspec.Raw]:
        async with HubClient(operator(free_port(), mosquitto.port)) as hub:
            return await hub.get("Pod")

    with ScriptedHub(mosquitto.port, lambda call: call.reply(GetResult(items=[]))):
        assert run(ask()) == []


@pytest.mark.parametrize("tls", [False, True])
def test_a_broker_that_says_nothing_does_not_hold_up_the_end(tmp_path: Path, tls: bool) -> None:
    """The system would wait for longer than the deadline; the program ends at once all the same."""
    found = operator(1)
    if tls:
        material = tls_material(tmp_path, ["me"])
        found = msgspec.structs.replace(
            found,
            ca=material.ca.cert.read_text(),
            certificate=material.clients["me"].cert.read_text(),
            private_key=material.clients["me"].key.read_text(),
        )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        address = BrokerAddress(host="127.0.0.1", port=port, tls=tls)

        async def ask() -> None:
            async with HubClient(msgspec.structs.replace(found, brokers=[address]), timeout=0.5):
                raise AssertionError("connected to nothing")

        began = time.monotonic()
        with pytest.raises(
            HubUnreachableError, match=rf"no connection to the broker 127\.0\.0\.1:{port} within 0\.5s"
        ):
            run(ask())
        assert time.monotonic() - began < 3
    gc.collect()  # a socket that was left open would say so


def test_a_request_larger_than_the_brokers_limit(mosquitto_factory: MosquittoFactory) -> None:
    broker = mosquitto_factory(options={"max_packet_size": "2000"})
    with pytest.raises(PermanentError, match=r"the request is too large: \d+ bytes .* send less at once"):
        run(with_hub(broker.port, lambda hub: hub.apply([msgspec.Raw(b'"%s"' % (b"x" * 5000))])))


def test_a_watch_is_at_the_hub_before_what_follows_and_is_cancelled_when_left(mosquitto: Mosquitto) -> None:
    def answer(call: Call) -> None:
        if call.method == "watch":
            call.reply(added("a"), sequence=0, last=False)
        elif call.method == "get":
            call.reply(GetResult(items=[]))

    async def ask(hub: HubClient) -> bytes:
        async with hub.watch("Pod", name="a") as events:
            await hub.get("Pod")
            return bytes((await anext(events)).object)

    with ScriptedHub(mosquitto.port, answer) as scripted:
        assert run(with_hub(mosquitto.port, ask)) == b'{"name":"a"}'
        wait_for(lambda: len(scripted.calls) == 3, what="the cancel")
        assert scripted.methods() == ["watch", "get", "cancel"]
        assert scripted.calls[0].correlation == scripted.calls[2].correlation
        assert scripted.calls[0].params == {"kind": "Pod", "name": "a", "timeoutSeconds": 60}


def test_a_watch_ends_when_the_hub_says_so_or_should_have(
    mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubconnection, "END_SECONDS", 0.3)

    def answer(call: Call) -> None:
        if call.method == "watch" and call.params["kind"] == "Pod":
            call.reply(added("a"), sequence=0, last=False)
            call.reply(None, sequence=1)

    async def ask(hub: HubClient) -> list[str]:
        seen = []
        for kind in ("Pod", "Node"):
            async with hub.watch(kind, seconds=1) as events:
                seen += [f"{kind} {event.type}" async for event in events]
        return seen

    with ScriptedHub(mosquitto.port, answer) as scripted:
        assert run(with_hub(mosquitto.port, ask)) == ["Pod ADDED"]
        assert scripted.methods() == ["watch", "watch"]


def test_a_lost_connection_ends_what_is_under_way_and_comes_back(mosquitto: Mosquitto) -> None:
    async def ask(hub: HubClient) -> list[msgspec.Raw]:
        async with hub.watch("Pod") as events:
            await asyncio.to_thread(mosquitto.restart)
            with pytest.raises(HubUnreachableError, match="connection to the broker was lost") as caught:
                await anext(events)
        assert caught.value.reason == "Disconnected"
        await hub.connected()
        for _ in range(50):  # the hub comes back in its own time
            try:
                return await hub.get("Pod")
            except HubUnreachableError:
                continue
        raise AssertionError("the hub did not come back")

    def answer(call: Call) -> None:
        if call.method == "get":
            call.reply(GetResult(items=[item("a")]))

    with ScriptedHub(mosquitto.port, answer):
        assert [bytes(one) for one in run(with_hub(mosquitto.port, ask, timeout=0.5))] == [b'{"name":"a"}']


def test_answers_that_nobody_reads_are_bounded(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubconnection, "QUEUED_REPLIES", 5)

    def answer(call: Call) -> None:
        if call.method == "watch":
            for number in range(50):
                call.reply(added(str(number)), sequence=number, last=False)

    async def ask(hub: HubClient) -> int:
        seen = 0
        async with hub.watch("Pod") as events:
            await asyncio.sleep(0.5)
            try:
                async for _ in events:
                    seen += 1
            except TemporaryError as error:
                return seen if error.reason == "Gap" else -1
        return 50

    with ScriptedHub(mosquitto.port, answer):
        assert 0 <= run(with_hub(mosquitto.port, ask)) < 50


def test_mutual_tls_and_a_certificate_that_is_refused(
    mosquitto_factory: MosquittoFactory, tmp_path: Path
) -> None:
    material, foreign = tls_material(tmp_path / "a", ["me"]), tls_material(tmp_path / "b", ["me"])
    broker = mosquitto_factory(tls=material)

    def who(certificates: Any, ca: Any) -> OperatorFile:
        return OperatorFile(
            cluster=CLUSTER,
            user=USER,
            brokers=[BrokerAddress(host="127.0.0.1", port=broker.port)],
            ca=ca.ca.cert.read_text(),
            certificate=certificates.clients["me"].cert.read_text(),
            private_key=certificates.clients["me"].key.read_text(),
        )

    async def connect(found: OperatorFile) -> None:
        async with HubClient(found, timeout=5):
            return

    run(connect(who(material, material)))
    with pytest.raises(HubUnreachableError, match=r"no broker can be reached: .*certificate"):
        run(connect(who(foreign, material)))
    with pytest.raises(HubUnreachableError, match="TLS failed: CERTIFICATE_VERIFY_FAILED"):
        run(connect(who(material, foreign)))
    gc.collect()  # a socket that was left open would say so


def test_the_reply_topic_may_be_refused(mosquitto_factory: MosquittoFactory, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read edge/v1/other/#\n")
    acl.chmod(0o700)
    broker = mosquitto_factory(options={"acl_file": str(acl)})
    with pytest.raises(EdgeAgentError, match=r"refused|did not answer"):
        run(with_hub(broker.port, lambda hub: hub.get("Pod"), timeout=1))


def test_keys_are_in_a_private_place_and_gone_when_they_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = tls_material(tmp_path / "tls", ["me"])
    places = tmp_path / "places"
    places.mkdir()
    monkeypatch.setattr(operatorfile, "_memory_directory", lambda: str(places))
    seen: list[tuple[str, int, int]] = []

    def look(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
        seen.extend(
            (p.name, p.stat().st_mode & 0o777, p.parent.stat().st_mode & 0o777)
            for p in (ca, certificate, key)
        )
        return client_context(ca, certificate, key)

    monkeypatch.setattr(operatorfile, "client_context", look)
    found = OperatorFile(
        cluster=CLUSTER,
        user=USER,
        brokers=[BrokerAddress(host="localhost")],
        ca=material.ca.cert.read_text(),
        certificate=material.clients["me"].cert.read_text(),
        private_key=material.clients["me"].key.read_text(),
    )
    assert tls_context(found) is not None
    assert seen == [(f"{name}.pem", 0o600, 0o700) for name in ("ca", "certificate", "private_key")]
    assert list(places.iterdir()) == []
    broken = msgspec.structs.replace(found, private_key="no key")
    with pytest.raises(
        PermanentError, match=r"operator file's certificates .*certificate\.pem with key private_key\.pem"
    ) as e:
        tls_context(broken)
    assert str(tmp_path) not in str(e.value)
    assert list(places.iterdir()) == []
    assert tls_context(operator(1)) is None


def test_operator_files(tmp_path: Path) -> None:
    path = tmp_path / "operator.json"
    with pytest.raises(PermanentError, match=r"there is no operator file at .*`edgehub init`"):
        read_operator_file(path)
    assert read_operator_file(write_operator(path, operator(1))) == operator(1)
    assert not others_can_read(path)
    os.chmod(path, 0o640)
    assert others_can_read(path)
    for text, problem in (
        ("{", "cannot be used: "),
        ('{"a": 1}', "a: unknown field|required field is missing"),
        (
            msgspec.json.encode(msgspec.structs.replace(operator(1), brokers=[])).decode(),
            "brokers: at least one",
        ),
        (
            msgspec.json.encode(msgspec.structs.replace(operator(1), user="a/b")).decode(),
            "user: 'a/b' cannot be part",
        ),
        (
            msgspec.json.encode(msgspec.structs.replace(operator(1), cluster="A")).decode(),
            "cluster: 'A' must be",
        ),
    ):
        path.write_text(text)
        with pytest.raises(PermanentError, match=problem):
            read_operator_file(path)
    with pytest.raises(PermanentError, match="cannot read the operator file"):
        read_operator_file(tmp_path)
