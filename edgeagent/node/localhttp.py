"""HTTP for the local API's connections: the standard library's server, one connection at a time a thread."""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, urlsplit

from edgeagent.node.localapi import Answer, failure
from edgeagent.node.localstreams import MAX_BODY_BYTES, OpenedStream
from edgeagent.wire.socketlink import UPGRADE

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
STREAMS = "/edge/v1/streams/"


def serve_connection(
    connection: socket.socket,
    *,
    ask: Callable[[str, Mapping[str, str]], Answer],
    open_stream: Callable[[str, bytes], OpenedStream | Answer],
    begin: Callable[[OpenedStream, socket.socket], None],
) -> None:
    """Answer requests on ``connection`` until it is closed or idle; closes it.

    A stream that is opened goes on with the connection, by ``begin``: the other side may not write to it
    before it has read the answer that says so.
    """

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
            self._answer(answer)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not self.path.startswith(STREAMS):
                self._refuse(failure(405, "MethodNotAllowed", f"only {STREAMS}METHOD can be posted to"))
            elif not (length.isascii() and length.isdecimal() and len(length) < 10):
                self._refuse(failure(411, "BadRequest", "how long the body is must be said (Content-Length)"))
            elif int(length) > MAX_BODY_BYTES:
                self._refuse(failure(413, "BadRequest", f"the body may have {MAX_BODY_BYTES} bytes"))
            elif self.headers.get("Upgrade", "").lower() != UPGRADE:
                self._refuse(failure(426, "BadRequest", f"what is posted here needs Upgrade: {UPGRADE}"))
            else:
                opened = open_stream(self.path, self.rfile.read(int(length)))
                if isinstance(opened, OpenedStream):
                    self._upgrade(opened)
                else:
                    self._answer(opened)

        def _upgrade(self, opened: OpenedStream) -> None:
            self.close_connection = True  # for HTTP: the descriptor lives on
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", UPGRADE)
            self.end_headers()
            begin(opened, socket.socket(fileno=os.dup(connection.fileno())))

        def _refuse(self, answer: Answer) -> None:
            """Without having read the body, after which there is no telling where the next request begins."""
            self.close_connection = True
            self._answer(answer)

        def _answer(self, answer: Answer) -> None:
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
