"""paho-mqtt on an event loop: a client whose socket is opened by others and driven by readiness callbacks.

Knows paho's habits (those of 2.1 and 2.2) and nothing of sessions, topics or back-off.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edgeagent.wire.traffic import Traffic, traffic_of

log = logging.getLogger(__name__)

KEEPALIVE_MARGIN_SECONDS = 0.05
"""How much later than paho's own reckoning its keep-alive is looked at, so that it is due by then."""
MAX_PACKET_BYTES = 4_000_000
"""What this side accepts in one packet (MQTT 5 Maximum Packet Size)."""
PUBLISH, PINGRESP, QOS_2 = 0x30, 0xD0, 0x04
"""In the first byte of a packet (MQTT 5, 2.1.1 and 3.3.1)."""
MAX_CONTROL_BYTES = 16_384
"""What a message's properties may take, or a packet that is none: paho's time grows with the square of it."""
PACKETS_AT_ONCE = 50
"""After so many, whoever else waits for the loop has a turn."""
SEND_WINDOW = 20
"""How many publications may await their acknowledgement, where the broker's Receive Maximum is not less."""


def _variable(data: bytearray) -> int:
    """A Variable Byte Integer (MQTT 5, 1.5.5), of its first three bytes."""
    value = 0
    for position, byte in enumerate(data):
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value
    return value | 1 << 21


class PahoClient(paho.Client):
    """A paho client on a socket that is connected already.

    paho by itself connects blocking: for as long as it takes, in a thread that nothing can stop.
    """

    prepared: socket.socket | None = None
    driver: "SocketDriver | None" = None

    def _create_socket(self) -> "paho.SocketLike":
        sock, self.prepared = self.prepared, None
        if sock is None:
            raise OSError("the socket is not open yet")
        return sock

    def _packet_handle(self) -> MQTTErrorCode:
        """Hang up on what no broker has a reason to send, and paho would keep, or be busy with for long."""
        if self._is_unfit(self._in_packet["command"], self._in_packet["packet"]):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._packet_handle()

    def _is_unfit(self, command: int, body: bytearray) -> bool:
        kind = command & 0xF0
        if kind == PINGRESP:
            return not self._ping_t
        if kind != PUBLISH:
            return len(body) > MAX_CONTROL_BYTES
        # A message before there is a session, or of QoS 2, of which paho keeps as many as are sent.
        if not self.is_connected() or command & 0x06 == QOS_2:
            return True
        if self.protocol != MQTTProtocolVersion.MQTTv5:
            return False
        start = 2 + int.from_bytes(body[:2], "big") + (2 if command & 0x06 else 0)
        length = body[start : start + 3]
        # Three bytes of the length that all say that another follows are far too many properties already.
        return _variable(length) > MAX_CONTROL_BYTES

    def take_terms(self, *, keepalive: int | None, receive_maximum: int | None) -> None:
        """Keep to what the broker's CONNACK set, which paho 2.1 does not do and lets nobody else do."""
        if keepalive is not None:
            self._keepalive = keepalive
        self._max_inflight_messages = min(SEND_WINDOW, receive_maximum or SEND_WINDOW)

    @property
    def incoming_bytes(self) -> int:
        """The size, as announced, of a packet that is coming in."""
        return int(self._in_packet["remaining_length"])

    @property
    def disconnect_reason(self) -> ReasonCode | None:
        """Why the broker ends the session, while its DISCONNECT is handled; paho 2.1 mostly drops it."""
        packet = self._in_packet["packet"]
        return ReasonCode(PacketTypes.DISCONNECT, identifier=packet[0]) if packet else None

    def close(self) -> None:
        """Close the socket at once. Without a DISCONNECT before it, the broker publishes the will."""
        if self.driver is not None:
            self.driver.stop()
        if self.prepared is not None:
            self.prepared.close()
        if (sock := self.socket()) is not None:
            sock.close()


class SocketDriver:
    """Moves a paho client's socket on with asyncio's readiness callbacks."""

    def __init__(
        self,
        client: PahoClient,
        loop: asyncio.AbstractEventLoop,
        *,
        tls: bool,
        accepted: Callable[[], bool],
        on_lost: Callable[[str], None],
    ) -> None:
        """``accepted`` tells whether CONNACK came; ``on_lost`` is called with the reason when all is over."""
        self._client = client
        self._loop = loop
        self._accepted = accepted
        self._on_lost = on_lost
        self._tls = tls
        self._sock: paho.SocketLike | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_in = self._last_out = time.monotonic()
        self._trouble = ""
        self._carried = Traffic()
        client.on_socket_open = lambda _c, _u, sock: self._opened(sock)
        client.on_socket_close = lambda _c, _u, _sock: self.stop()
        client.on_socket_register_write = lambda _c, _u, sock: self._want_write(sock)
        client.on_socket_unregister_write = lambda _c, _u, sock: self._no_write(sock)
        # Why the broker hangs up before it has answered, such as a TLS alert, is said nowhere else.
        client.on_log = lambda _c, _u, level, text: self._note(level, text)

    @property
    def traffic(self) -> Traffic:
        """What the connection carries, or has carried."""
        return self._carried if self._sock is None else traffic_of(self._sock)

    def answered(self) -> None:
        """CONNACK came: keep-alive begins."""
        self._client.on_log = None
        self._last_in = self._last_out = time.monotonic()
        if self._sock is not None:
            self._schedule()

    def stop(self) -> None:
        """Look at the socket no more. It is still open."""
        self._carried = self.traffic
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR and not self._trouble:
            self._trouble = text.removeprefix("failed to receive on socket: ")

    def _opened(self, sock: "paho.SocketLike") -> None:
        self._sock = sock
        self._carried = Traffic()
        self._loop.add_reader(sock.fileno(), self._read)

    def _want_write(self, sock: "paho.SocketLike") -> None:
        if sock is self._sock:
            self._loop.add_writer(sock.fileno(), self._write)

    def _no_write(self, sock: "paho.SocketLike") -> None:
        if sock is self._sock:
            self._loop.remove_writer(sock.fileno())

    def _read(self) -> None:
        client, sock = self._client, self._sock
        try:
            code = client.loop_read()
            # TLS hands over whole records: what is left of one raises no further readiness event.
            count = 1
            while self._sock is sock and isinstance(sock, ssl.SSLSocket) and sock.pending():
                if count == PACKETS_AT_ONCE:
                    self._loop.call_soon(self._read_on, sock)
                    break
                code = client.loop_read()
                count += 1
        except Exception as error:
            # paho 2.1 lets out whatever its parser stumbled over, and would do so again for ever.
            log.debug("malformed packet", exc_info=error)
            self._lost("the broker sent a malformed packet")
            return
        self._last_in = time.monotonic()
        if self._sock is None:
            malformed = code in (MQTTErrorCode.MQTT_ERR_PROTOCOL, MQTTErrorCode.MQTT_ERR_NOMEM)
            self._lost("the broker sent a malformed packet" if malformed else self._why())
        elif client.incoming_bytes > MAX_PACKET_BYTES:
            self._lost(f"the broker sent a packet of more than {MAX_PACKET_BYTES} bytes")

    def _read_on(self, sock: "paho.SocketLike") -> None:
        if self._sock is sock:
            self._read()

    def _why(self) -> str:
        if self._accepted():
            return "connection lost"
        if "CERTIFICATE_REVOKED" in self._trouble:
            return "the broker refuses this client's certificate, which was revoked"
        hint = " (does it accept this client's certificate?)" if self._tls else ""
        return f"{self._trouble or 'the broker hung up before it answered CONNECT'}{hint}"

    def _write(self) -> None:
        self._client.loop_write()
        self._last_out = time.monotonic()
        if self._sock is None:
            self._lost(self._why())

    def _tick(self) -> None:
        now = time.monotonic()
        client = self._client
        client.loop_misc()
        if self._sock is None:
            self._lost("the broker does not answer keep-alive")
            return
        if min(self._last_in, self._last_out) + client.keepalive <= now:
            self._last_in = self._last_out = now  # paho has sent PINGREQ, and reckons from there
        self._schedule()

    def _schedule(self) -> None:
        """Wake up once, when keep-alive has something to do."""
        if self._timer is not None:
            self._timer.cancel()
        if keepalive := self._client.keepalive:
            due = min(self._last_in, self._last_out) + keepalive + KEEPALIVE_MARGIN_SECONDS
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._tick)

    def _lost(self, reason: str) -> None:
        self.stop()
        self._on_lost(reason)
