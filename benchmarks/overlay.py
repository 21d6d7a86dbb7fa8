"""How much goes from a pod of one node to a pod of another, by overlay, in one TCP stream of iperf3.

Nodes are network namespaces on one bridge, each with the whole plugin. The baseline is a veth pair between
two namespaces and nothing else; ``route`` has the pods' and the bridge's links on its way, and no overlay.
"""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.report import Report
from benchmarks.scene import progress
from edgeagent.api.objects.network import Overlay
from tests.plugins.network.nodeskit import Nodes
from tests.support.netlab import Lab
from tests.support.wireguardlab import missing

SECONDS = 4
ROUNDS = 3
PORT = 5201
OVERLAYS: tuple[Overlay, ...] = ("route", "vxlan", "wireguard")


def run() -> Report:
    """All ways in turn, several times, so that the machine's load meets all alike."""
    report = Report("overlay")
    with ExitStack() as stack:
        ways = {"veth": _bare(stack)}
        for overlay in OVERLAYS:
            if overlay == "wireguard" and missing():
                report.notes.append(f"no WireGuard: {missing()}")
                continue
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
            nodes = stack.enter_context(Nodes(folder, overlay, names=("a", "b")))
            for name in nodes.nodes:
                nodes.change(name, pod_cidrs=nodes.nodes[name].cidrs[:1])
            if problems := nodes.settle():
                raise RuntimeError(f"{overlay} is not in force: {problems[0].message}")
            ways[overlay] = (nodes.pod("a"), nodes.pod("b"), nodes.ip("b"))
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            for name, (start, end, address) in ways.items():
                progress(f"round {number + 1}: {name}")
                found[name].append(_gigabits(start, end, address))
    report.baseline["veth_gbit"] = median(found.pop("veth"))
    for name, values in found.items():
        report.figures[f"{name}_gbit"] = median(values)
        report.ratio(f"{name}_to_veth", f"{name}_gbit", "veth_gbit")
    kernel = Path("/sys/module/wireguard").exists()
    report.notes.append(
        f"median of {ROUNDS} rounds of {SECONDS} s, one stream, IPv4; sender, receiver and both nodes share "
        f"the machine's processors; WireGuard is {'the kernel' if kernel else 'wireguard-go'}'s"
    )
    return report


def _bare(stack: ExitStack) -> tuple[str, str, str]:
    lab = stack.enter_context(Lab())
    ends = [lab.namespace("one"), lab.namespace("two")]
    lab.host.run(["ip", "link", "add", "one", "type", "veth", "peer", "name", "two"])
    for number, (link, end) in enumerate(zip(("one", "two"), ends, strict=True), 1):
        lab.host.run(["ip", "link", "set", "dev", link, "netns", end])
        lab.inside(end, lambda link=link, number=number: _up(link, f"10.99.0.{number}/24"))  # type: ignore[misc]
    return ends[0], ends[1], "10.99.0.2"


def _up(link: str, address: str) -> None:
    for argv in (["address", "add", address, "dev", link], ["link", "set", "dev", link, "up"]):
        subprocess.run(["ip", *argv], check=True)


def _gigabits(start: str, end: str, address: str) -> float:
    """Received in one run of iperf3."""
    server = _iperf(end, "--server", "--one-off", "--forceflush")
    assert server.stdout is not None
    while "listening" not in server.stdout.readline():
        if server.poll() is not None:
            raise RuntimeError("iperf3 does not listen")
    client = _iperf(start, "--client", address, "--time", str(SECONDS), "--omit", "1", "--json")
    said = json.loads(client.communicate(timeout=SECONDS + 30)[0])
    server.communicate(timeout=30)
    if "error" in said:
        raise RuntimeError(f"iperf3: {said['error']}")
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e9


def _iperf(namespace: str, *arguments: str) -> subprocess.Popen[str]:
    enter: Sequence[str] = ("nsenter", f"--net=/run/netns/{namespace}")
    return subprocess.Popen(
        [*enter, "iperf3", "--port", str(PORT), *arguments], stdout=subprocess.PIPE, text=True
    )
