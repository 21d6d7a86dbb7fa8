"""The MQTT session: one connection to one of several brokers, kept up, on the caller's event loop.

With ``pahosocket`` the one user of paho-mqtt. paho does the protocol; its sockets are opened and driven by
asyncio, so that no thread and no timer runs while nothing happens, save MQTT's own keep-alive. Every
connection is a fresh paho client: nothing that was in flight is replayed behind the back of a caller, who
was told that it failed.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import paho.mqtt.client as paho
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.wire.dial import failure_reason, open_socket
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.pahosocket import MAX_PACKET_BYTES, PahoClient, SocketDriver
from edgeagent.wire.traffic import Traffic

T = TypeVar("T")

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 120
"""One PINGREQ in this time is all that an idle session sends."""
RECONNECT_FIRST_SECONDS = 20.0
RECONNECT_CEILING_SECONDS = 120.0
STABLE_SECONDS = 60.0
"""A connection must have lasted this long for the back-off to begin anew."""
CONNECT_SECONDS = 20.0
"""How long TCP, TLS and the broker's answer to CONNECT may take together."""
RECEIVE_MAXIMUM = 64
DEFAULT_BROKER_LIMIT = 256_000
"""The packet size to stay below where the broker names no limit of its own."""
REQUEST_EXPIRY_SECONDS = 60
"""A request that its receiver was not there to take in this time is dropped by the broker, not done late."""
ACKNOWLEDGE_SECONDS = 60.0
"""A broker that keeps the connection up and acknowledges nothing for this long is given up."""
PACKET_OVERHEAD = 512
"""Room left in a packet for its header, topic and properties."""
PUBLISH_HEADER = 32
"""What PUBLISH needs beside payload, topic, response topic and correlation data, at most."""


class Message(msgspec.Struct, frozen=True):
    """A message as received. ``response_topic`` and ``correlation`` are empty where the sender set none."""

    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str = ""
    correlation: bytes = b""


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes, retained, when the session ends without a goodbye."""

    topic: str
    payload: bytes


class Connection(msgspec.Struct, frozen=True):
    """What a successful CONNACK said. ``payload_limit`` is the largest payload to publish, in bytes."""

    address: BrokerAddress
    version: int
    session_present: bool
    payload_limit: int


class _Link(msgspec.Struct):
    """One paho client and what waits for its acknowledgements."""

    client: PahoClient
    closed: asyncio.Future[str]
    connected: asyncio.Future[Connection]
    acks: dict[int, asyncio.Future[list[ReasonCode]]] = msgspec.field(default_factory=dict)
    has_will: bool = False
    early: list[Message] = msgspec.field(default_factory=list)
    """What a kept session's broker sent on the heels of CONNACK, for after ``on_connect``."""

    @property
    def traffic(self) -> Traffic:
        """What it carries, or has carried."""
        return self.client.driver.traffic if self.client.driver is not None else Traffic()


class SessionConfig(msgspec.Struct, frozen=True):
    """How to connect: ``tls`` is needed for the addresses that say so; ``session_expiry`` in seconds."""

    addresses: Sequence[BrokerAddress]
    client_id: str
    tls: ssl.SSLContext | None = None
    keepalive: int = KEEPALIVE_SECONDS
    session_expiry: int = 0
    reconnect_first: float = RECONNECT_FIRST_SECONDS
    reconnect_ceiling: float = RECONNECT_CEILING_SECONDS


class MqttSession:
    """Keeps a connection. All methods and callbacks are on the event loop that ``run`` runs on.

    ``will`` is asked before each connection; ``on_connect`` is called when the broker has accepted one,
    ``on_disconnect`` with the reason when it is lost or could not be made. Callbacks must return at once.
    ``accepted`` counts the connections that a broker has accepted.
    """

    def __init__(
        self,
        config: SessionConfig,
        *,
        clock: Clock,
        rng: random.Random,
        on_message: Callable[[Message], None],
        on_connect: Callable[[Connection], None],
        on_disconnect: Callable[[str], None],
        will: Callable[[], Will | None] = lambda: None,
    ) -> None:
        if not config.addresses:
            raise PermanentError("no broker address is configured")
        self._config = config
        self._clock = clock
        self._on_message = on_message
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._will = will
        self._backoff = Backoff(rng, first=config.reconnect_first, ceiling=config.reconnect_ceiling)
        self._link: _Link | None = None
        self._hurry = asyncio.Event()
        self.connection: Connection | None = None
        self.accepted = 0
        self._carried = Traffic()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled; then say goodbye to the broker."""
        try:
            while True:
                self._hurry.clear()
                for address in self._config.addresses:
                    began = self._clock.monotonic()
                    if await self._one_connection(address):
                        if self._clock.monotonic() - began >= STABLE_SECONDS:
                            self._backoff.reset()
                        break
                await self._pause(self._backoff.next())
        finally:
            self._goodbye()

    @property
    def traffic(self) -> Traffic:
        """What all connections since the session was made have carried."""
        return self._carried if self._link is None else self._carried + self._link.traffic

    def use_tls(self, tls: ssl.SSLContext) -> None:
        """Connect with this from now on, and at once where there is no connection; one that is up stays."""
        self._config = replace(self._config, tls=tls)
        if self.connection is None:
            self._backoff.reset()
            self._hurry.set()

    async def _pause(self, seconds: float) -> None:
        waits = self._clock.sleep(seconds), self._hurry.wait()
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _one_connection(self, address: BrokerAddress) -> bool:
        """One connection from its beginning to its end; whether the broker accepted it."""
        reason = await self._connect(address)
        if reason is None and self._link is not None:
            reason = await self._link.closed
            self._drop(reason)
            return True
        self._drop(reason or "closed")
        return False

    async def _connect(
        self, address: BrokerAddress, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5
    ) -> str | None:
        """None once connected, else why not."""
        where = f"{address.host}:{address.port}"
        if address.tls and self._config.tls is None:
            return f"{where} wants TLS, but no certificate is configured"
        self._link = link = self._new_link(address, version)
        try:
            async with asyncio.timeout(CONNECT_SECONDS) as limit:
                await self._open(link, address)
                await _first_of(link.connected, link.closed)
        except (OSError, ValueError, OverflowError) as error:
            if not limit.expired():
                return f"{where}: {failure_reason(error)}"
            what = "no connection" if link.client.socket() is None else "the broker did not answer CONNECT"
            return f"{where}: {what} in {CONNECT_SECONDS:.0f} s"
        if not link.connected.done():
            if link.closed.result() == _UNSUPPORTED and version is MQTTProtocolVersion.MQTTv5:
                self._drop(None)
                return await self._connect(address, MQTTProtocolVersion.MQTTv311)
            return f"{where}: {link.closed.result()}"
        self.connection = link.connected.result()
        self.accepted += 1
        log.info("connected to %s with MQTT %d", where, self.connection.version)
        self._on_connect(self.connection)
        for message in link.early:
            self._deliver(message)
        link.early.clear()
        return None

    async def _open(self, link: _Link, address: BrokerAddress) -> None:
        """TCP and TLS; then paho sends CONNECT."""
        client, keepalive = link.client, self._config.keepalive
        tls = self._config.tls if address.tls else None
        client.prepared = sock = await open_socket(address.host, address.port, tls, CONNECT_SECONDS)
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._config.session_expiry
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            clean = self._config.session_expiry == 0
            client.connect(address.host, address.port, keepalive, clean_start=clean, properties=properties)
        else:
            client.connect(address.host, address.port, keepalive)
        assert client.socket() is sock, "paho opened a socket of its own"

    def _new_link(self, address: BrokerAddress, version: MQTTProtocolVersion) -> _Link:
        loop = asyncio.get_running_loop()
        client = PahoClient(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            protocol=version,
            reconnect_on_failure=False,
            clean_session=None if version is MQTTProtocolVersion.MQTTv5 else True,
        )
        if (will := self._will()) is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        link = _Link(client, loop.create_future(), loop.create_future(), has_will=will is not None)
        driver = SocketDriver(
            client,
            loop,
            tls=address.tls,
            accepted=link.connected.done,
            on_lost=lambda reason: _resolve(link.closed, reason),
        )
        client.driver = driver

        def connack(present: bool, reason: ReasonCode, properties: Properties | None) -> None:
            self._connack(link, address, present, reason, properties)
            driver.answered()

        def disconnected(from_broker: bool, reason: ReasonCode) -> None:
            if from_broker:
                reason = client.disconnect_reason or reason
                _resolve(link.closed, f"the broker closed the session: {reason}")

        client.on_connect = lambda _c, _u, flags, reason, properties: connack(
            flags.session_present, reason, properties
        )
        client.on_disconnect = lambda _c, _u, flags, reason, _p: disconnected(
            flags.is_disconnect_packet_from_server, reason
        )
        client.on_message = lambda _c, _u, message: self._received(link, message)
        client.on_publish = lambda _c, _u, mid, reason, _p: _acknowledge(link, mid, [reason])
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: _acknowledge(link, mid, reasons)
        client.on_unsubscribe = lambda _c, _u, mid, reasons, _p: _acknowledge(link, mid, reasons)
        return link

    def _connack(
        self,
        link: _Link,
        address: BrokerAddress,
        present: bool,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            unsupported = "protocol version" in str(reason).lower()
            _resolve(link.closed, _UNSUPPORTED if unsupported else f"refused: {reason}")
            return
        packet = getattr(properties, "MaximumPacketSize", None) or DEFAULT_BROKER_LIMIT
        link.client.take_terms(
            keepalive=getattr(properties, "ServerKeepAlive", None),
            receive_maximum=getattr(properties, "ReceiveMaximum", None),
        )
        version = 5 if link.client.protocol == MQTTProtocolVersion.MQTTv5 else 3
        _resolve(link.connected, Connection(address, version, present, max(0, packet - PACKET_OVERHEAD)))

    def _received(self, link: _Link, received: paho.MQTTMessage) -> None:
        try:
            topic = received.topic
        except UnicodeDecodeError:
            log.warning("a message whose topic is not UTF-8 was passed over")
            return
        message = Message(
            topic,
            bytes(received.payload),
            received.retain,
            getattr(received.properties, "ResponseTopic", ""),
            getattr(received.properties, "CorrelationData", b""),
        )
        if self.connection is None:
            link.early.append(message)
        elif self._link is link:
            self._deliver(message)

    def _deliver(self, message: Message) -> None:
        try:
            self._on_message(message)
        except Exception:
            # A bug in one receiver must not end the session for all others.
            log.exception("a message on %s could not be handled", message.topic)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        response_topic: str = "",
        correlation: bytes = b"",
        heard: bool = False,
    ) -> None:
        """Publish with QoS 1 and wait for the broker's acknowledgement. ``heard``: somebody has to read it.

        TemporaryError where there is no connection, it is lost before the answer, or the broker is busy
        or over a quota; PermanentError where the packet is too large or the broker does not allow it.
        """
        link = self._connected_link()
        limit = self.connection.payload_limit if self.connection else 0
        names = len(topic.encode()) + len(response_topic.encode()) + len(correlation)
        if max(len(payload), len(payload) + names + PUBLISH_HEADER - PACKET_OVERHEAD) > limit:
            raise PermanentError(
                f"{len(payload)} bytes on {topic} are more than the broker's limit of {limit}",
                reason="PacketTooLarge",
            )
        properties = None
        if link.client.protocol == MQTTProtocolVersion.MQTTv5 and (response_topic or correlation):
            properties = _properties(PacketTypes.PUBLISH)
            if response_topic:
                properties.ResponseTopic = response_topic
                properties.MessageExpiryInterval = REQUEST_EXPIRY_SECONDS
            if correlation:
                properties.CorrelationData = correlation
        info = link.client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        for reason in await self._acknowledged(link, info.mid, info.rc):
            _check(reason, topic)
            if heard and reason.value == 0x10:  # MQTT 5: no matching subscribers
                raise TemporaryError(f"nobody reads {topic}", reason="NobodyReads")

    async def subscribe(
        self, filters: Sequence[str], *, qos: Literal[0, 1] = 1, as_published: bool = False
    ) -> None:
        """Subscribe; retained messages follow. The broker keeps none of QoS 0 for a session that is away.

        ``as_published``: messages say that they are retained even where they have just been published, if the
        broker can tell. Errors as in ``publish``, naming the filter refused.
        """
        link = self._connected_link()
        options = SubscribeOptions(qos=qos, retainAsPublished=as_published)
        for part in self._parts(filters):
            await self._subscribe(link, part, options)

    async def _subscribe(self, link: _Link, filters: Sequence[str], options: SubscribeOptions) -> None:
        if link.client.protocol == MQTTProtocolVersion.MQTTv5:
            wanted: list[tuple[str, SubscribeOptions]] | list[tuple[str, int]] = [
                (name, options) for name in filters
            ]
        else:
            wanted = [(name, options.QoS) for name in filters]
        rc, mid = link.client.subscribe(wanted)
        reasons = await self._acknowledged(link, mid, rc)
        for name, reason in zip(filters, reasons, strict=False):
            if reason.is_failure and link.client.protocol != MQTTProtocolVersion.MQTTv5:
                # 3.1.1 has one code for all failures; a topic that is not allowed is what it is used for.
                raise PermanentError(f"the broker refused {name}", reason="BrokerRefused")
            _check(reason, name)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Undo ``subscribe``. Errors as in ``publish``."""
        link = self._connected_link()
        for part in self._parts(filters):
            rc, mid = link.client.unsubscribe(list(part))
            reasons = await self._acknowledged(link, mid, rc)
            for name, reason in zip(part, reasons, strict=False):  # MQTT 3.1.1 gives none
                _check(reason, name)

    def _parts(self, filters: Sequence[str]) -> list[list[str]]:
        """``filters`` in runs that fit in one packet each."""
        limit = self.connection.payload_limit if self.connection else 0
        parts: list[list[str]] = []
        room = 0
        for name in filters:
            size = len(name.encode()) + 3
            if size > room:
                parts.append([])
                room = limit
            parts[-1].append(name)
            room -= size
        return parts

    def _connected_link(self) -> _Link:
        if self._link is None or self.connection is None:
            raise TemporaryError("not connected to a broker", reason="Disconnected")
        return self._link

    async def _acknowledged(self, link: _Link, mid: int | None, rc: MQTTErrorCode) -> list[ReasonCode]:
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None or link is not self._link:
            raise TemporaryError(f"not sent: {paho.error_string(rc)}", reason="Disconnected")
        future: asyncio.Future[list[ReasonCode]] = asyncio.get_running_loop().create_future()
        link.acks[mid] = future
        try:
            async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
                return await future
        except TimeoutError:
            _resolve(link.closed, f"the broker acknowledged nothing for {ACKNOWLEDGE_SECONDS:.0f} s")
            raise TemporaryError("the broker does not acknowledge", reason="BrokerBusy") from None
        finally:
            link.acks.pop(mid, None)

    def _drop(self, reason: str | None) -> None:
        """Forget the current link; ``reason`` None keeps it from the listener (it is tried again at once)."""
        link, self._link = self._link, None
        was, self.connection = self.connection, None
        if link is not None:
            for future in list(link.acks.values()):
                if not future.done():
                    future.set_exception(TemporaryError(f"connection lost: {reason}", reason="Disconnected"))
            link.closed.cancel()
            link.connected.cancel()
            link.client.close()
            self._carried += link.traffic
        if reason is not None:
            log.log(logging.WARNING if was and reason != "stopped" else logging.INFO, "%s", reason)
            self._on_disconnect(reason)

    def _goodbye(self) -> None:
        if (link := self._link) is not None and self.connection is not None:
            if not link.has_will:
                link.client.disconnect()
                link.client.loop_write()
            elif self.connection.version == 5:
                # The node is away, whether it was stopped or died: the broker is to say so.
                link.client.disconnect(
                    reasoncode=ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
                )
                link.client.loop_write()
            # To a 3.1.1 broker, hanging up without a goodbye says the same.
        self._drop("stopped")


_UNSUPPORTED = "the broker does not speak this protocol version"


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _acknowledge(link: _Link, mid: int, reasons: Sequence[ReasonCode]) -> None:
    if (future := link.acks.get(mid)) is not None:  # else nobody waits any more
        _resolve(future, list(reasons))


def _resolve(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _check(reason: ReasonCode, topic: str) -> None:
    if not reason.is_failure:
        return
    name = str(reason)
    if name in (
        "Quota exceeded",
        "Server busy",
        "Server unavailable",
        "Unspecified error",
        "Implementation specific error",
    ):
        raise TemporaryError(f"the broker did not take {topic}: {name}", reason="BrokerBusy")
    raise PermanentError(f"the broker refused {topic}: {name}", reason="BrokerRefused")


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
