"""MetricsServer: the hub's ``/metrics`` over HTTP, in threads of its own. Loopback, or mutual TLS."""

import contextlib
import gzip
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edgeagent.api.errors import PermanentError
from edgeagent.cluster.metricsconfig import ListenSection
from edgeagent.cluster.metricspage import CONTENT_TYPE
from edgeagent.wire.clientnames import is_allowed

log = logging.getLogger(__name__)

MAX_CLIENTS = 8
REQUEST_SECONDS = 10.0


class MetricsServer:
    """``page`` answers the page of one node, or of all for an empty name; it is called in a thread."""

    def __init__(self, config: ListenSection, page: Callable[[str], bytes]) -> None:
        """PermanentError where the address or the TLS files cannot be used."""
        where = f"{config.address}:{config.port}"
        try:
            context = _context(config)
            family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
            address = config.address, config.port
            self._server = _Server(address, _handler(page), family, context, config.allowed_clients)
        except (OSError, ssl.SSLError) as error:
            raise PermanentError(f"metrics cannot be served on {where}: {error}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        log.info("metrics at %s://%s/metrics", "https" if context else "http", where)

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _context(config: ListenSection) -> ssl.SSLContext | None:
    if not config.certificate_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(config.certificate_file, config.key_file, password="")
    context.load_verify_locations(config.client_ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
        family: socket.AddressFamily,
        context: ssl.SSLContext | None,
        allowed_clients: Sequence[str],
    ) -> None:
        self.address_family = family
        self._allowed_clients = allowed_clients
        self._context = context
        self._places = threading.Semaphore(MAX_CLIENTS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(REQUEST_SECONDS)
        # Whoever hangs up, or shows no certificate, is no news.
        with contextlib.suppress(OSError):
            if self._context is not None:
                with self._context.wrap_socket(request, server_side=True) as encrypted:
                    if is_allowed(encrypted.getpeercert() or {}, self._allowed_clients):
                        super().finish_request(encrypted, client_address)
                    else:
                        log.warning(
                            "a client whose certificate has no name in allowed_clients was turned away"
                        )
            else:
                super().finish_request(request, client_address)


def _handler(page: Callable[[str], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "edgehub"
        sys_version = ""

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path != "/metrics":
                self.send_error(404, "metrics are at /metrics")
                return
            body = page(parse_qs(url.query).get("node", [""])[0])
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                body = gzip.compress(body, 1)
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler
