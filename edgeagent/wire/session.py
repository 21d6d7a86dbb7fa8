"""The MQTT session: one connection to one of several brokers, kept up, on the caller's event loop.

The one user of paho-mqtt. paho does the protocol; its sockets are driven by asyncio, so that no thread
and no timer runs while nothing happens, save MQTT's own keep-alive. Every connection is a fresh paho
client: nothing that was in flight is replayed behind the back of a caller, who was told that it failed.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.wire.jitter import Backoff
from edgeagent.wire.join import BrokerAddress

T = TypeVar("T")

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 120
"""One PINGREQ in this time is all that an idle session sends."""
RECONNECT_FIRST_SECONDS = 2.0
RECONNECT_CEILING_SECONDS = 120.0
STABLE_SECONDS = 60.0
"""A connection must have lasted this long for the back-off to begin anew."""
CONNECT_SECONDS = 20.0
MAX_PACKET_BYTES = 4_000_000
"""What this side accepts in one packet (MQTT 5 Maximum Packet Size)."""
RECEIVE_MAXIMUM = 64
DEFAULT_BROKER_LIMIT = 256_000
"""The packet size to stay below where the broker names no limit of its own."""
PACKET_OVERHEAD = 512
"""Room left in a packet for its header, topic and properties."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as received. ``response_topic`` and ``correlation`` are empty where the sender set none."""

    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str = ""
    correlation: bytes = b""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the session ends without a goodbye."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connection:
    """What a successful CONNACK said. ``payload_limit`` is the largest payload to publish, in bytes."""

    address: BrokerAddress
    version: int
    session_present: bool
    payload_limit: int


@dataclass(slots=True)
class _Link:
    """One paho client and what waits for its acknowledgements."""

    client: paho.Client
    closed: asyncio.Future[str]
    connected: asyncio.Future[Connection]
    acks: dict[int, asyncio.Future[list[ReasonCode]]] = field(default_factory=dict)
    early_acks: dict[int, list[ReasonCode]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionConfig:
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
        self._versions: dict[BrokerAddress, MQTTProtocolVersion] = {}
        self._link: _Link | None = None
        self.connection: Connection | None = None

    async def run(self) -> None:
        """Connect, and connect again, until cancelled; then say goodbye to the broker."""
        try:
            while True:
                for address in self._config.addresses:
                    began = self._clock.monotonic()
                    if await self._one_connection(address):
                        if self._clock.monotonic() - began >= STABLE_SECONDS:
                            self._backoff.reset()
                        break
                await self._clock.sleep(self._backoff.next())
        finally:
            self._goodbye()

    async def _one_connection(self, address: BrokerAddress) -> bool:
        """One connection from its beginning to its end; whether the broker accepted it."""
        reason = await self._connect(address)
        if reason is None and self._link is not None:
            reason = await self._link.closed
            self._drop(reason)
            return True
        self._drop(reason or "closed")
        return False

    async def _connect(self, address: BrokerAddress) -> str | None:
        """None once connected, else why not."""
        version = self._versions.get(address, MQTTProtocolVersion.MQTTv5)
        try:
            link = self._new_link(address, version)
        except PermanentError as error:
            return str(error)
        self._link = link
        try:
            await self._open(link, address, version)
        except OSError as error:
            return f"{address.host}:{address.port}: {_os_reason(error)}"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await _first_of(link.connected, link.closed)
        except TimeoutError:
            return f"{address.host}:{address.port}: the broker did not answer CONNECT in {CONNECT_SECONDS:.0f} s"
        if not link.connected.done():
            if link.closed.result() == _UNSUPPORTED and version is MQTTProtocolVersion.MQTTv5:
                self._versions[address] = MQTTProtocolVersion.MQTTv311
                self._drop(None)
                return await self._connect(address)
            hint = " (does it accept this client's certificate?)" if address.tls else ""
            return f"{address.host}:{address.port}: {link.closed.result()}{hint}"
        self.connection = link.connected.result()
        log.info("connected to %s:%d with MQTT %d", address.host, address.port, self.connection.version)
        self._on_connect(self.connection)
        return None

    async def _open(self, link: _Link, address: BrokerAddress, version: MQTTProtocolVersion) -> None:
        """TCP and TLS, which paho does blocking, in a thread that ends with it."""
        properties = None
        if version is MQTTProtocolVersion.MQTTv5:
            properties = _properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = self._config.session_expiry
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
            properties.MaximumPacketSize = MAX_PACKET_BYTES
        loop = asyncio.get_running_loop()

        def connect() -> None:
            if version is MQTTProtocolVersion.MQTTv5:
                clean = self._config.session_expiry == 0
                link.client.connect(
                    address.host, address.port, self._config.keepalive, clean_start=clean, properties=properties
                )
            else:
                link.client.connect(address.host, address.port, self._config.keepalive)

        opening = loop.run_in_executor(None, connect)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The thread cannot be stopped; whatever it opens is closed when it is done.
            opening.add_done_callback(lambda done: _abort_unseen(done, link.client))
            raise

    def _new_link(self, address: BrokerAddress, version: MQTTProtocolVersion) -> _Link:
        loop = asyncio.get_running_loop()
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            protocol=version,
            reconnect_on_failure=False,
            clean_session=None if version is MQTTProtocolVersion.MQTTv5 else True,
        )
        client.connect_timeout = CONNECT_SECONDS
        if address.tls:
            if self._config.tls is None:
                raise PermanentError(f"{address.host}:{address.port} wants TLS, but no certificate is configured")
            client.tls_set_context(self._config.tls)
        if (will := self._will()) is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        link = _Link(client, loop.create_future(), loop.create_future())
        _Driver(link, loop)
        client.on_connect = lambda _c, _u, flags, reason, properties: self._connack(
            link, address, flags.session_present, reason, properties
        )
        client.on_disconnect = lambda _c, _u, flags, reason, _p: _resolve(
            link.closed,
            f"the broker closed the session: {reason}"
            if flags.is_disconnect_packet_from_server
            else "connection lost",
        )
        client.on_message = lambda _c, _u, message: self._received(message)
        client.on_publish = lambda _c, _u, mid, reason, _p: _acknowledge(link, mid, [reason])
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: _acknowledge(link, mid, reasons)
        client.on_unsubscribe = lambda _c, _u, mid, reasons, _p: _acknowledge(link, mid, reasons)
        return link

    def _connack(
        self, link: _Link, address: BrokerAddress, present: bool, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            _resolve(link.closed, _UNSUPPORTED if "protocol version" in str(reason).lower() else f"refused: {reason}")
            return
        packet = getattr(properties, "MaximumPacketSize", None) or DEFAULT_BROKER_LIMIT
        link.client.max_inflight_messages_set(min(20, getattr(properties, "ReceiveMaximum", 20)))
        version = 5 if link.client.protocol == MQTTProtocolVersion.MQTTv5 else 3
        _resolve(link.connected, Connection(address, version, present, max(1024, packet - PACKET_OVERHEAD)))

    def _received(self, message: paho.MQTTMessage) -> None:
        properties = message.properties
        try:
            self._on_message(
                Message(
                    message.topic,
                    bytes(message.payload),
                    message.retain,
                    getattr(properties, "ResponseTopic", ""),
                    getattr(properties, "CorrelationData", b""),
                )
            )
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
    ) -> None:
        """Publish with QoS 1 and wait for the broker's acknowledgement.

        TemporaryError where there is no connection, it is lost before the answer, or the broker is busy
        or over a quota; PermanentError where the packet is too large or the broker does not allow it.
        """
        link = self._connected_link()
        limit = self.connection.payload_limit if self.connection else 0
        if len(payload) > limit:
            raise PermanentError(
                f"{len(payload)} bytes on {topic} are more than the broker's limit of {limit}", reason="PacketTooLarge"
            )
        properties = None
        if link.client.protocol == MQTTProtocolVersion.MQTTv5 and (response_topic or correlation):
            properties = _properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = response_topic
            properties.CorrelationData = correlation
        info = link.client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        reasons = await self._acknowledged(link, info.mid, info.rc)
        _check(reasons[0], topic)

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1; retained messages follow. Errors as in ``publish``, naming the filter refused."""
        link = self._connected_link()
        if link.client.protocol == MQTTProtocolVersion.MQTTv5:
            wanted: list[tuple[str, SubscribeOptions]] | list[tuple[str, int]] = [
                (name, SubscribeOptions(qos=1)) for name in filters
            ]
        else:
            wanted = [(name, 1) for name in filters]
        rc, mid = link.client.subscribe(wanted)
        reasons = await self._acknowledged(link, mid, rc)
        for name, reason in zip(filters, reasons, strict=False):
            _check(reason, name)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Undo ``subscribe``. Errors as in ``publish``."""
        link = self._connected_link()
        rc, mid = link.client.unsubscribe(list(filters))
        await self._acknowledged(link, mid, rc)

    def _connected_link(self) -> _Link:
        if self._link is None or self.connection is None:
            raise TemporaryError("not connected to a broker", reason="Disconnected")
        return self._link

    async def _acknowledged(self, link: _Link, mid: int | None, rc: MQTTErrorCode) -> list[ReasonCode]:
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise TemporaryError(f"not sent: {paho.error_string(rc)}", reason="Disconnected")
        if mid in link.early_acks:
            return link.early_acks.pop(mid)
        future: asyncio.Future[list[ReasonCode]] = asyncio.get_running_loop().create_future()
        link.acks[mid] = future
        try:
            return await future
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
            _abort(link.client)
        if reason is not None:
            log.log(logging.WARNING if was else logging.INFO, "%s", reason)
            self._on_disconnect(reason)

    def _goodbye(self) -> None:
        if (link := self._link) is not None and self.connection is not None:
            link.client.disconnect()
            link.client.loop_write()
        self._drop("stopped")


_UNSUPPORTED = "the broker does not speak this protocol version"


class _Driver:
    """Moves a paho client's socket on with asyncio's readiness callbacks."""

    def __init__(self, link: _Link, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        client = link.client
        # paho opens its socket in the connecting thread, so these may come from there.
        client.on_socket_open = lambda _c, _u, sock: self._post(self._opened, sock)
        client.on_socket_close = lambda _c, _u, sock: self._closed(sock)
        client.on_socket_register_write = lambda _c, _u, sock: self._post(self._want_write, sock)
        client.on_socket_unregister_write = lambda _c, _u, sock: self._post(self._no_write, sock)

    def _post(self, callback: Callable[[paho.SocketLike], None], sock: paho.SocketLike) -> None:
        self._loop.call_soon_threadsafe(callback, sock)

    def _opened(self, sock: paho.SocketLike) -> None:
        if sock is not self._link.client.socket():
            return
        self._loop.add_reader(sock.fileno(), self._read, sock)
        self._misc()

    def _closed(self, sock: paho.SocketLike) -> None:
        if (descriptor := sock.fileno()) >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        if self._timer is not None:
            self._timer.cancel()

    def _want_write(self, sock: paho.SocketLike) -> None:
        if sock is self._link.client.socket() and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write)

    def _no_write(self, sock: paho.SocketLike) -> None:
        if sock is self._link.client.socket() and sock.fileno() >= 0 and not self._link.client.want_write():
            self._loop.remove_writer(sock.fileno())

    def _read(self, sock: paho.SocketLike) -> None:
        client = self._link.client
        client.loop_read()
        # TLS hands over whole records: what is left of one raises no further readiness event.
        while (current := client.socket()) is sock and isinstance(sock, ssl.SSLSocket) and sock.pending():
            client.loop_read()
        if current is None:
            _resolve(self._link.closed, "connection lost")

    def _write(self) -> None:
        self._link.client.loop_write()

    def _misc(self) -> None:
        client = self._link.client
        client.loop_misc()
        if client.socket() is not None:
            self._timer = self._loop.call_later(max(1, client.keepalive) / 4, self._misc)
        else:
            _resolve(self._link.closed, "the broker does not answer keep-alive")


def _properties(packet: int) -> Properties:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _acknowledge(link: _Link, mid: int, reasons: Sequence[ReasonCode]) -> None:
    if (future := link.acks.get(mid)) is None:
        link.early_acks[mid] = list(reasons)
    else:
        _resolve(future, list(reasons))


def _resolve(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _check(reason: ReasonCode, topic: str) -> None:
    if not reason.is_failure:
        return
    name = str(reason)
    if name in ("Quota exceeded", "Server busy", "Server unavailable", "Unspecified error", "Implementation specific error"):
        raise TemporaryError(f"the broker did not take {topic}: {name}", reason="BrokerBusy")
    raise PermanentError(f"the broker refused {topic}: {name}", reason="BrokerRefused")


def _abort(client: paho.Client) -> None:
    client.on_disconnect = None
    client.disconnect()
    if (sock := client.socket()) is not None:
        client.loop_write()
        if client.socket() is not None:
            sock.close()


def _abort_unseen(opened: "asyncio.Future[None]", client: paho.Client) -> None:
    if not opened.cancelled() and (error := opened.exception()) is not None:
        log.debug("a connection given up meanwhile: %s", error)
    _abort(client)


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _os_reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return error.strerror or str(error) or type(error).__name__
