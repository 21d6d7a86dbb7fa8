"""Endpoint: one listening socket, on which one thread waits. What speaks HTTP or TLS comes with a client."""

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError
from edgeagent.api.metrics import MetricFamily
from edgeagent_metrics.config import MetricsConfig, parse_address

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Clients that are served at the same time; further ones wait, sixteen at most."""
BACKLOG = 16
HANDSHAKE_SECONDS = 5.0
ACCEPT_PAUSE_SECONDS = 1.0
STOP_SECONDS = 5.0


class Endpoint:
    """``edgeagent.api.service.Service``. ``cluster_ca``: who vouches for clients where no other is named."""

    def __init__(
        self, config: MetricsConfig, *, gather: Callable[[float], list[MetricFamily]], cluster_ca: Path
    ) -> None:
        self._address = parse_address(config.listen)
        self._tls = config.tls
        self._cluster_ca = cluster_ca
        self._gather = gather
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._free = threading.Semaphore(AT_ONCE)
        self._problem = ""

    def start(self) -> None:
        """Listen. PermanentError for TLS files that cannot be used, TemporaryError for an address in use."""
        secure = self._secure() if self._tls.certificate_file else _in_clear
        listener = socket.socket(self._address.family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._address.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((self._address.host, self._address.port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            where = f"{self._address.host} port {self._address.port}"
            raise TemporaryError(
                f"cannot listen on {where}: {error.strerror}; change listen in [plugins.metrics]",
                reason="CannotListen",
            ) from None
        self._stopping.clear()
        self._listener = listener
        self._thread = threading.Thread(
            target=self._accept, args=(listener, secure), name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Listen no more. A client that is being served gets its answer, if the agent lives so long."""
        self._stopping.set()
        free, self._free = self._free, threading.Semaphore(AT_ONCE)
        free.release()  # the thread may wait for a client to be done
        if self._listener is not None:
            try:
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            except OSError as error:
                log.debug("the endpoint was not listening: %s", error)
            self._listener.close()
            self._listener = None
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            self._thread = None

    def _accept(
        self, listener: socket.socket, secure: Callable[[socket.socket], socket.socket | None]
    ) -> None:
        free = self._free
        while not self._stopping.is_set():
            free.acquire()
            try:
                connection, _ = listener.accept()
            except OSError as error:
                free.release()
                if not self._stopping.is_set():
                    # Most likely no descriptor is free: without a pause this would spin.
                    log.warning("a client of the endpoint cannot be accepted: %s", error)
                    self._stopping.wait(ACCEPT_PAUSE_SECONDS)
                continue
            try:
                threading.Thread(
                    target=self._serve, args=(connection, secure, free), name="metrics client", daemon=True
                ).start()
            except RuntimeError as error:
                log.warning("no thread can be started for a client of the endpoint: %s", error)
                connection.close()
                free.release()
                self._stopping.wait(ACCEPT_PAUSE_SECONDS)

    def _serve(
        self,
        connection: socket.socket,
        secure: Callable[[socket.socket], socket.socket | None],
        free: threading.Semaphore,
    ) -> None:
        from edgeagent_metrics.http import serve

        try:
            with connection:
                connection.settimeout(HANDSHAKE_SECONDS)
                secured = secure(connection)
                self._problem = ""
                if secured is not None:
                    with secured:
                        serve(secured, self._gather)
        except PermanentError as error:
            if str(error) != self._problem:
                log.error("nobody can be served metrics: %s", error)
            self._problem = str(error)
        except (OSError, EdgeAgentError) as error:
            log.debug("a client of the endpoint is gone: %s", error)
        finally:
            free.release()

    def _secure(self) -> Callable[[socket.socket], socket.socket | None]:
        """What makes a connection one of mutual TLS; it answers None for who is not let in."""
        from edgeagent_metrics.tls import Gatekeeper

        gatekeeper = Gatekeeper(self._tls, cluster_ca=self._cluster_ca)
        gatekeeper.context()

        def secure(connection: socket.socket) -> socket.socket | None:
            secured = gatekeeper.context().wrap_socket(connection, server_side=True)
            if gatekeeper.admits(secured):
                return secured
            log.warning("a client whose certificate has no name in allowed_clients was turned away")
            secured.close()
            return None

        return secure


def _in_clear(connection: socket.socket) -> socket.socket:
    return connection


class NoEndpoint:
    """In place of an endpoint where none is wanted."""

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing to end."""
