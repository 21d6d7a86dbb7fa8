"""A stream of datagrams by iperf3, which counts itself what was lost."""

import json
import signal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgeagent_network.programs import run_program
from tests.support.cluster import within
from tests.support.proc import Process

PORT = 5201
RATE, LENGTH = "4M", 1000
"""Bits a second, and bytes in a datagram: five hundred datagrams a second."""
MOVED = 500
WAIT_SECONDS = 60.0


class UdpStream:
    """Use it as a context: datagrams go from one network namespace to an address that leads to the other's
    port PORT, for which TCP must lead there too. ``sent`` and ``received`` are iperf3's own sums afterwards.
    """

    def __init__(self, folder: Path, client: str, server: str, address: str) -> None:
        self._server_space = server
        listen = ["iperf3", "--server", "--one-off", "--json", "--port", str(PORT)]
        self._server = Process(within(server, listen), log=folder / "iperf3-server.json")
        send = ["iperf3", "--client", address, "--port", str(PORT), "--udp", "--json", "--time", "0"]
        send += ["--bitrate", RATE, "--length", str(LENGTH)]
        self._client = Process(within(client, send), log=folder / "iperf3-client.json")
        self.sent: dict[str, Any] = {}
        self.received: dict[str, Any] = {}

    def __enter__(self) -> Self:
        try:
            self._server.start()
            self._server.wait_until(self._listens, WAIT_SECONDS, "listening")
            self._client.start()
            self.wait_moved()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                # As Ctrl-C does: both ends print their sums.
                self._client.send_signal(signal.SIGINT)
                self._client.wait()
                self._server.wait()
                self.sent = json.loads(self._client.tail(10_000))["end"]["sum_sent"]
                self.received = json.loads(self._server.tail(10_000))["end"]["sum_received"]
        finally:
            self._kill()

    def wait_moved(self) -> None:
        """Until so many more datagrams have come that it is the stream that brought them."""
        wanted = self._come() + MOVED
        self._client.wait_until(lambda: self._come() >= wanted, WAIT_SECONDS, f"{MOVED} datagrams further")

    def _listens(self) -> bool:
        table = Path(f"/proc/{self._server.pid}/net/tcp6").read_text()
        return f":{PORT:04X} " in table

    def _come(self) -> int:
        """How many packets came to the server's namespace."""
        (link,) = json.loads(
            run_program(["ip", "-n", self._server_space, "-j", "-s", "link", "show", "eth0"])
        )
        return int(link["stats64"]["rx"]["packets"])

    def _kill(self) -> None:
        self._client.kill()
        self._server.kill()
