"""HTTP for the local API's connections: the standard library's server, one connection at a time a thread."""

import logging
import socket
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit

from edgeagent.node.localapi import Answer, failure

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0


def serve_connection(connection: socket.socket, ask: Callable[[str, Mapping[str, str]], Answer]) -> None:
    """Answer requests on ``connection`` until it is closed or idle; closes it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "edgeagent"
        sys_version = ""
        timeout = IDLE_SECONDS

        def do_GET(self) -> None:
            try:
                url = urlsplit(self.path)
                query = dict(parse_qsl(url.query))
            except ValueError as error:
                answer = failure(400, "BadRequest", str(error))
            else:
                answer = ask(url.path, query)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

        def address_string(self) -> str:
            return "local"

    with connection:
        connection.settimeout(IDLE_SECONDS)
        try:
            Handler(connection, ("local", 0), None)  # type: ignore[arg-type]
        except (OSError, TimeoutError) as error:
            log.debug("a local connection ended: %s", error)
