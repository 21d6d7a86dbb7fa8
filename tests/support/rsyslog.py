"""A real rsyslog as a child: it receives over TLS, TCP and UDP on loopback, and writes JSON lines."""

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.broker import TlsMaterial
from tests.support.proc import Process, free_port, port_answers

RSYSLOGD = "/usr/sbin/rsyslogd"

_PROPERTIES = {
    "pri": 'name="pri"',
    "time": 'name="timereported" dateformat="rfc3339"',
    "host": 'name="hostname"',
    "app": 'name="app-name"',
    "procid": 'name="procid"',
    "msgid": 'name="msgid"',
    "data": 'name="structured-data"',
    "text": 'name="msg"',
    "protocol": 'name="protocol-version"',
    "raw": 'name="rawmsg"',
}
_ENDS = [*"," * (len(_PROPERTIES) - 1), ""]


class Rsyslog:
    """``driver`` is ``ossl`` or ``gtls``. With ``permitted`` a client must show a certificate of that name.

    ``port`` is for TLS; ``tcp_port`` and ``udp_port`` are for the plain ones.
    """

    def __init__(
        self,
        directory: Path,
        tls: TlsMaterial,
        *,
        driver: str = "ossl",
        permitted: str = "",
        port: int | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.driver = driver
        self.port = port or free_port()
        self.tcp_port = free_port()
        self.udp_port = free_port()
        self.output = directory / "received.jsonl"
        mode = f'streamdriver.authmode="x509/name" permittedpeer=["{permitted}"]' if permitted else (
            'streamdriver.authmode="anon"'
        )  # fmt: skip
        fields = "\n  ".join(
            f'property(outname="{name}" {source} format="jsonf") constant(value="{end}")'
            for (name, source), end in zip(_PROPERTIES.items(), _ENDS, strict=True)
        )
        self._config = directory / "rsyslog.conf"
        self._config.write_text(
            f"""
global(
  workDirectory="{directory}" maxMessageSize="64k"
  parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriverCAFile="{tls.ca.cert}"
  defaultNetstreamDriverCertFile="{tls.server.cert}"
  defaultNetstreamDriverKeyFile="{tls.server.key}"
)
module(load="imtcp")
module(load="imudp")
template(name="json" type="list") {{
  constant(value="{{")
  {fields}
  constant(value="}}\\n")
}}
ruleset(name="write") {{ action(type="omfile" file="{self.output}" template="json") }}
input(type="imtcp" port="{self.port}" address="127.0.0.1" ruleset="write"
      streamdriver.name="{driver}" streamdriver.mode="1" {mode})
input(type="imtcp" port="{self.tcp_port}" address="127.0.0.1" ruleset="write")
input(type="imudp" port="{self.udp_port}" address="127.0.0.1" ruleset="write")
"""
        )
        argv = [RSYSLOGD, "-n", "-f", str(self._config), "-i", str(directory / "rsyslog.pid")]
        self.process = Process(argv, log=directory / "rsyslog.log")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()

    def start(self) -> Self:
        """Start it; it listens when this returns."""
        self.process.start()
        self.process.wait_until(
            lambda: port_answers(self.tcp_port) and port_answers(self.port), what="listening"
        )
        self.process.wait_until(lambda: _taken(self.udp_port), what="listening on UDP")
        return self

    def received(self) -> list[dict[str, Any]]:
        """Every message that it has written."""
        if not self.output.exists():
            return []
        text = self.output.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _taken(port: int) -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
