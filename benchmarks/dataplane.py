"""Requests from a pod through a Service against requests to the Service's pod itself, a connection each.

On one node that is a network namespace, with the whole table in force and many other Services in it. The
server answers each request, and the client closes. Both ways take turns in short rounds, so that the
machine's load meets both alike, and each has a pod of its own, so that neither meets the other's old
connections. The client has 64,512 ports: with half of a range in use, connect(2) takes long to find one.
"""

import multiprocessing
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

import msgspec

from benchmarks.report import Report
from benchmarks.scene import progress
from edgeagent.api.network import NetworkService, NetworkState
from edgeagent_network.programs import in_namespace
from tests.plugins.network.netkit import Node, state_of
from tests.plugins.network.servicemaking import backend, service
from tests.support.netlab import Lab
from tests.support.netprobe import in_namespace_thread

PORT = 8080
SERVICE = "10.43.0.1"
OTHER_SERVICES = 1_000
REQUESTS = 500
ROUNDS = 31
WARMUP = 500
PORTS = "1024 65535"
_REQUEST = b"GET / HTTP/1.0\r\n\r\n"
_ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def run() -> Report:
    """Both ways, several rounds of each."""
    report = Report("dataplane")
    with Lab(forwarding=False) as lab, tempfile.TemporaryDirectory(prefix="edgeagent-bench-") as folder:
        node = Node(lab, lab.host, Path(folder))
        servers: list[_Server] = []
        try:
            node.attach("client")
            targets = {name: node.attach(name).ips[0] for name in ("direct", "service")}
            target = targets["service"]
            in_namespace(node.space("client"))(
                ["sysctl", "-q", "-w", f"net.ipv4.ip_local_port_range={PORTS}"]
            )
            others = [
                service(f"other-{number}", f"10.43.{number // 200 + 1}.{number % 200 + 1}", [backend(target)])
                for number in range(OTHER_SERVICES)
            ]
            problems = node.network.reconcile(_state(others, target)).problems
            if problems:
                raise RuntimeError(f"not all is in force: {problems[0].message}")
            servers = [_Server(node.space(name)) for name in targets]
            found: dict[str, list[list[float]]] = {"direct": [], "service": []}
            addresses = {"direct": (targets["direct"], PORT), "service": (SERVICE, 80)}
            for address in addresses.values():
                _ask(node.space("client"), address, WARMUP)
            for number in range(ROUNDS):
                progress(f"round {number + 1} of {ROUNDS}")
                order = list(found) if number % 2 else list(reversed(found))
                for name in order:
                    found[name].append(_ask(node.space("client"), addresses[name], REQUESTS))
        finally:
            for server in servers:
                server.close()
            node.close()
    for name, rounds in found.items():
        into = report.baseline if name == "direct" else report.figures
        into[f"{name}_requests_per_second"] = median(REQUESTS / sum(one) for one in rounds)
        into[f"{name}_p50_us"] = median(median(one) for one in rounds) * 1e6
        into[f"{name}_p99_us"] = median(quantiles(one, n=100)[98] for one in rounds) * 1e6
    for what in ("requests_per_second", "p50_us", "p99_us"):
        report.ratio(f"{what}_to_direct", f"service_{what}", f"direct_{what}")
    report.notes.append(
        f"medians of {ROUNDS} rounds of {REQUESTS} requests, one after another, each a connection of its "
        f"own, with {OTHER_SERVICES} other Services in force; client and server are Python"
    )
    return report


def _state(others: list[NetworkService], target: str) -> NetworkState:
    wanted = service("wanted", SERVICE, [backend(target, PORT)])
    return msgspec.structs.replace(state_of("client", "direct", "service"), services=[wanted, *others])


def _ask(namespace: str, address: tuple[str, int], times: int) -> list[float]:
    """The seconds of each request, from no connection to the end of the answer."""

    def ask() -> list[float]:
        found = []
        for _ in range(times):
            begun = time.perf_counter()
            with socket.create_connection(address, timeout=10) as opened:
                opened.sendall(_REQUEST)
                answer = b""
                while len(answer) < len(_ANSWER) and (more := opened.recv(4096)):
                    answer += more
            found.append(time.perf_counter() - begun)
            if answer != _ANSWER:
                raise RuntimeError(f"answered {answer[:100]!r}")
        return found

    return in_namespace_thread(namespace, ask)


class _Server:
    """A process of its own, so that it does not share the client's interpreter."""

    def __init__(self, namespace: str) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(namespace, there), daemon=True)
        self._process.start()
        here.recv()
        here.close()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.join()


def _serve(namespace: str, ready: Connection) -> None:
    def listen() -> socket.socket:
        made = socket.create_server(("", PORT), backlog=512)
        return made

    with in_namespace_thread(namespace, listen) as listener:
        ready.send(True)
        while True:
            opened, _ = listener.accept()
            with opened:
                opened.recv(4096)
                opened.sendall(_ANSWER)
                opened.recv(4096)
