"""CPU time of one probe over HTTP, TCP and gRPC, and the memory of what each needs."""

import asyncio
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.measure import median, probe
from benchmarks.report import Report
from benchmarks.scene import PODS, progress
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.probe import GRPCAction, HTTPGetAction, Probe, TCPSocketAction
from edgeagent.api.runtime import ExecResult
from edgeagent.node.pods.probes import ProbeTarget, perform

COUNT = int(os.environ.get("BENCH_COUNT", "500"))
ROUNDS = 5
PROBES_A_MINUTE = PODS * 6
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def run() -> Report:
    """Measure ROUNDS of BENCH_COUNT (default 500) probes of each kind; the median of the rounds counts."""
    report = Report("probes")
    with _servers() as (web, grpc):
        probes = {
            "http": Probe(http_get=HTTPGetAction(port=web, path="/healthz")),
            "tcp": Probe(tcp_socket=TCPSocketAction(port=web)),
            "grpc": Probe(grpc=GRPCAction(port=grpc)),
        }
        rounds: dict[str, list[float]] = {name: [] for name in (*probes, "http_client")}
        for number in range(ROUNDS):
            progress(f"round {number + 1} of {ROUNDS}")
            for name, subject in probes.items():
                rounds[name].append(asyncio.run(_cpu_ms(subject)))
            rounds["http_client"].append(_http_client_cpu_ms(web))
    for name in probes:
        report.figures[f"{name}_cpu_ms"] = median(rounds[name])
    report.baseline["http_client_cpu_ms"] = median(rounds["http_client"])
    report.figures["http_10_pods_cpu_seconds_a_minute"] = (
        report.figures["http_cpu_ms"] * PROBES_A_MINUTE / 1000
    )
    package = "edgeagent.node.pods.probes"
    bare = probe(f"import asyncio, {package}", sys.executable)["pss"]
    for name in ("http", "grpc"):
        loaded = probe(f"import asyncio, {package}.{name}", sys.executable)["pss"]
        report.figures[f"{name}_import_mb"] = loaded - bare
    report.ratio("http_to_http_client", "http_cpu_ms", "http_client_cpu_ms")
    report.limit("http_cpu_ms", 2)
    report.limit("tcp_cpu_ms", 2)
    report.notes.append(
        "user and system time of the probing process alone, the servers are in another; the baseline is "
        "Python's blocking http.client, which would need a thread for each probe under way. 10 pods: an "
        "HTTP probe every 10 s, without the schedule's own cost"
    )
    return report


async def _cpu_ms(subject: Probe) -> float:
    target = ProbeTarget(Container(name="bench", image="none"), "127.0.0.1", _no_exec)
    assert (await perform(subject, target, 5)).success  # and whatever is imported, is imported
    before = time.process_time()
    for _ in range(COUNT):
        outcome = await perform(subject, target, 5)
        assert outcome.success, outcome.message
    return (time.process_time() - before) / COUNT * 1000


def _http_client_cpu_ms(port: int) -> float:
    before = time.process_time()
    for _ in range(COUNT):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        connection.close()
    return (time.process_time() - before) / COUNT * 1000


async def _no_exec(command: list[str], timeout: float) -> ExecResult:
    raise NotImplementedError


@contextlib.contextmanager
def _servers() -> Iterator[tuple[int, int]]:
    """The ports of a web server and a gRPC health server, in a process of their own."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        numbers = [listener.fileno() for listener in listeners]
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.probes", *map(str, numbers)], pass_fds=numbers
        )
        try:
            yield listeners[0].getsockname()[1], listeners[1].getsockname()[1]
        finally:
            child.terminate()
            child.wait()


class _Web(asyncio.Protocol):
    """Answers whatever comes, once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Something was sent."""
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(_ANSWER)
        self.transport.close()


async def _serve(web: int, grpc: int) -> None:
    from tests.support.healthserver import HealthServer

    loop = asyncio.get_running_loop()
    first = await loop.create_server(_Web, sock=socket.socket(fileno=web))
    second = await loop.create_server(HealthServer, sock=socket.socket(fileno=grpc))
    await asyncio.gather(first.serve_forever(), second.serve_forever())


if __name__ == "__main__":
    asyncio.run(_serve(*map(int, sys.argv[1:])))
