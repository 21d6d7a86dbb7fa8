"""Syslog, by RFC 5424 over TLS (RFC 5425), TCP (RFC 6587, octet counting) or UDP (RFC 5426).

The receiver never says that it has got a message. Over TLS and TCP what was sent counts as arrived once the
receiver's kernel has acknowledged every byte and the connection still stands; else it is sent again.
"""

import array
import contextlib
import fcntl
import select
import socket
import termios
import threading
from collections.abc import Sequence

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord
from edgeagent_logs.attributes import NodeNames, chosen_labels, record_id, weights
from edgeagent_logs.deadline import Deadline, DeadlineSocket, connect
from edgeagent_logs.shipment import Shipment, SizeLimit
from edgeagent_logs.sinkconfig import SyslogConfig
from edgeagent_logs.syslogformat import SyslogFormat
from edgeagent_logs.tlscontext import TlsContexts, needs_a_person

_OVERHEAD = 400
_HUNG_UP = "the receiver hung up: see its log for why"
_PART_BYTES = 262_144
_FIRST_LOOK_SECONDS = 0.002
_LAST_LOOK_SECONDS = 0.2
PROVED_SECONDS = 0.5
"""A receiver that does not want this node (its certificate, its address) may hang up only after something was
sent: what goes over a new connection counts as arrived if that stands for so long."""


class SyslogSink:
    """One receiver."""

    def __init__(self, config: SyslogConfig, names: NodeNames) -> None:
        self._config = config
        self._names = names
        self._tls = TlsContexts(config.tls) if config.transport == "tls" else None
        self._format = SyslogFormat(
            node=names.node,
            facility=config.facility,
            sd_id=config.structured_data,
            limit=config.max_message_bytes,
        )
        self._kept: DeadlineSocket | None = None
        self._keeping = threading.Lock()
        self.where = f"{config.transport}://{config.host}:{config.port}"

    def ship(self, stream: str, first: int, batch: LogBatch) -> Delivery:
        """As ``LogSinks.ship``."""
        shipment = Shipment(weights(batch, _OVERHEAD), SizeLimit(_PART_BYTES))

        def message(place: int) -> bytes:
            record = batch.records[place]
            origin = batch.origins[record.origin]
            params = self._params(record, origin, record_id(stream, first, place))
            return self._format.message(record, origin, params)

        def send(places: Sequence[int]) -> None:
            messages = [message(place) for place in places]
            try:
                if self._config.transport == "udp":
                    self._send_datagrams(messages)
                else:
                    self._send(b"".join(b"%d %s" % (len(one), one) for one in messages))
            except OSError as error:
                raise self._failed(error) from None

        return shipment.run(send)

    def close(self) -> None:
        """Let go of the connection."""
        if (kept := self._take()) is not None:
            kept.close()

    def _params(self, record: LogRecord, origin: LogOrigin, uid: str) -> dict[str, str]:
        labels = chosen_labels(origin, self._config.pod_labels)
        return {
            "id": uid,
            "cluster": self._names.cluster,
            "namespace": origin.namespace,
            "pod": origin.pod,
            "pod_uid": origin.pod_uid,
            "container": origin.container,
            "image": origin.image,
            "level": record.severity,
            **{f"label.{name}": value for name, value in labels.items()},
        }

    def _send(self, data: bytes) -> None:
        deadline = Deadline(self._config.timeout)
        kept = self._take()
        connection = kept or self._connect(deadline)
        connection.deadline = deadline
        try:
            connection.sendall(data)
            _await_acknowledged(connection)
            if kept is None:
                _await_hang_up(connection)
            elif not connection.quiet():
                raise ConnectionResetError(_HUNG_UP)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)

    def _take(self) -> DeadlineSocket | None:
        with self._keeping:
            kept, self._kept = self._kept, None
        if kept is not None and not kept.quiet():
            kept.close()
            return None
        return kept

    def _keep(self, connection: DeadlineSocket) -> None:
        with self._keeping:
            other, self._kept = self._kept, connection
        if other is not None:  # made meanwhile by another thread
            other.close()

    def _connect(self, deadline: Deadline) -> DeadlineSocket:
        context = None if self._tls is None else self._tls.current()
        sock = connect(self._config.host, self._config.port, deadline)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if context is not None:
                sock.settimeout(deadline.left())
                name = self._config.tls.server_name or self._config.host
                sock = context.wrap_socket(sock, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        return DeadlineSocket(sock, deadline)

    def _send_datagrams(self, messages: Sequence[bytes]) -> None:
        deadline = Deadline(self._config.timeout)
        found = socket.getaddrinfo(self._config.host, self._config.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with contextlib.closing(socket.socket(family, kind, protocol)) as sock:
            sock.connect(address)
            for one in messages:
                sock.settimeout(deadline.left())
                sock.send(one)

    def _failed(self, error: OSError) -> TemporaryError | PermanentError:
        text = f"{self.where}: {error.strerror or str(error) or type(error).__name__}"
        if needs_a_person(error):
            return PermanentError(text, reason="TlsRefused")
        if isinstance(error, TimeoutError):
            text = f"{self.where}: not taken within {self._config.timeout:g} s"
        elif isinstance(error, socket.gaierror):
            text = f"{self.where}: the name cannot be resolved: {error.strerror}"
        return TemporaryError(text, reason="Unreachable")


def _await_acknowledged(connection: DeadlineSocket) -> None:
    """Return once the other side's kernel has every byte; OSError where it hangs up, or at the deadline.

    tcp(7), SIOCOUTQ: nothing wakes whoever waits for it, so it is looked at, more and more rarely.
    """
    pause = _FIRST_LOOK_SECONDS
    while True:
        unacknowledged = array.array("i", [0])
        fcntl.ioctl(connection.sock.fileno(), termios.TIOCOUTQ, unacknowledged)
        if not unacknowledged[0]:
            return
        readable, _, _ = select.select([connection.sock], [], [], min(pause, connection.deadline.left()))
        if readable and not connection.quiet():
            raise ConnectionResetError(_HUNG_UP)
        pause = min(pause * 2, _LAST_LOOK_SECONDS)


def _await_hang_up(connection: DeadlineSocket) -> None:
    """Return once the connection has stood for a while; OSError where the other side ends it."""
    proved = Deadline(PROVED_SECONDS)
    with contextlib.suppress(TimeoutError):
        while True:
            readable, _, _ = select.select([connection.sock], [], [], proved.left())
            if readable and not connection.quiet():
                raise ConnectionResetError(_HUNG_UP)
