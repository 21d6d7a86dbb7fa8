"""A small world of network namespaces for tests of pod networks: hosts on a LAN, pods on hosts, and a peer.

``Lab`` has a host named ``a`` and a LAN with one peer; more hosts are added. All of it, and what the plugin
makes in it, is gone when the lab is closed. The machine's own network is never touched.
"""

import itertools
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from edgeagent_network.programs import Runner, in_namespace, run_program
from tests.support.netprobe import Outcome, Probe, Servers, Transport, in_namespace_thread, probe_all

T = TypeVar("T")
LAN4, LAN6 = "192.168.77", "fd77:"
"""What all labs' LANs have their addresses of; they never meet."""
NETNS = Path("/run/netns")
_numbers = itertools.count()


class Host:
    """A node's host. ``run`` runs a program in it: what is handed to a part of the plugin as its runner."""

    def __init__(self, lab: "Lab", name: str, number: int) -> None:
        self.name = f"{lab.prefix}{name}"
        self.ip4, self.ip6 = f"{LAN4}.{number}", f"{LAN6}:{number}"
        self.run: Runner = in_namespace(self.name)
        # Names of namespaces are the machine's, so each host's pods have a prefix of their own.
        self.pod_prefix = f"{self.name}-"

    def ip(self, *commands: str) -> None:
        """Run several commands of ip, each without that first word, in one process."""
        self.run(["ip", "-batch", "-"], "\n".join(commands) + "\n")

    def nft(self, text: str) -> str:
        """Run a script of nft."""
        return self.run(["nft", "-f", "-"], text)

    def json(self, *argv: str) -> Any:
        """What a program writes, as JSON."""
        return json.loads(self.run(argv) or "[]")


class Lab:
    """Use it as a context. Host ``a`` is ``host``; the peer on the LAN is the namespace ``lan``.

    ``forwarding``: whether hosts forward packets from the start, which the plugin otherwise switches on.
    """

    def __init__(self, *, forwarding: bool = True) -> None:
        self.prefix = f"edget{os.getpid()}n{next(_numbers)}-"
        self.lan = f"{self.prefix}lan"
        self.lan4, self.lan6 = f"{LAN4}.254", f"{LAN6}:254"
        self._forwarding = forwarding
        self._hosts: list[Host] = []
        self.servers = Servers()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        self.host = self.add_host("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        self.namespace("lan")
        in_namespace(self.lan)(
            ["ip", "-batch", "-"],
            "link add lan0 type bridge\n"
            "link set lan0 addrgenmode none\n"
            f"address add {self.lan4}/24 dev lan0\n"
            f"address add {self.lan6}/64 dev lan0 nodad\n"
            "link set lan0 up\n",
        )

    def namespace(self, name: str) -> str:
        """Make an empty namespace with its loopback up; its full name."""
        full = f"{self.prefix}{name}"
        run_program(["ip", "netns", "add", full])
        run_program(["ip", "-n", full, "link", "set", "lo", "up"])
        return full

    def add_host(self, name: str) -> Host:
        """Another host on the LAN, with the peer as its default gateway."""
        host = Host(self, name, len(self._hosts) + 1)
        self._hosts.append(host)
        self.namespace(name)
        forwarding = int(self._forwarding)
        host.run(
            [
                *("sysctl", "-q", "-w", f"net.ipv4.ip_forward={forwarding}"),
                f"net.ipv6.conf.all.forwarding={forwarding}",
            ]
        )
        run_program(
            ["ip", "-n", self.lan, "-batch", "-"],
            f"link add name {name} type veth peer name uplink netns {host.name}\n"
            f"link set dev {name} master lan0\nlink set dev {name} up\n",
        )
        host.ip(
            "link set uplink addrgenmode none",
            "link set uplink up",
            f"address add {host.ip4}/24 dev uplink",
            f"address add {host.ip6}/64 dev uplink nodad",
            f"route add default via {self.lan4}",
            f"route add default via {self.lan6}",
        )
        return host

    def pod(self, name: str, *ips: str, host: Host | None = None) -> str:
        """A pod made by hand, for tests of other things than how pods are made; its namespace."""
        on = host or self.host
        link = f"edge{sha256(name.encode()).hexdigest()[:10]}"
        full = self.namespace(f"pod-{name}")
        mac_host, mac_pod = "02:00:00:00:00:01", "02:00:00:00:00:02"
        on.ip(
            f"link add {link} address {mac_host} type veth peer name eth0 address {mac_pod} netns {full}",
            f"link set {link} addrgenmode none",
            f"link set {link} up",
            *(f"route add {ip} dev {link}" for ip in ips),
            *(f"neigh add {ip} lladdr {mac_pod} dev {link} nud permanent" for ip in ips),
        )
        inside = ["link set eth0 addrgenmode none", "link set eth0 up"]
        for ip in ips:
            six = ip_address(ip).version == 6
            gateway = "fe80::1" if six else "169.254.1.1"
            inside += [
                f"address add {ip}/{'128 dev eth0 nodad' if six else '32 dev eth0'}",
                f"neigh add {gateway} lladdr {mac_host} dev eth0 nud permanent",
                *([] if six else [f"route add {gateway} dev eth0 scope link"]),
                f"route add default via {gateway} dev eth0",
            ]
        run_program(["ip", "-n", full, "-batch", "-"], "\n".join(inside) + "\n")
        return full

    # Who talks to whom

    def serve(self, namespace: str, *ports: int, protocol: Transport = "TCP", name: str = "") -> None:
        """Answer on these ports in a namespace; see ``Servers``."""
        for port in ports:
            self.servers.serve(namespace, port, protocol, name)

    def probe(
        self, namespace: str, address: str, port: int, protocol: Transport = "TCP", timeout: float = 1.0
    ) -> Outcome:
        """What comes of one new connection."""
        return self.probes([Probe(namespace, address, port, protocol)], timeout)[0]

    def probes(self, probes: Sequence[Probe], timeout: float = 1.0) -> list[Outcome]:
        """What comes of many, made at once."""
        return probe_all(probes, timeout)

    def inside(self, namespace: str, call: Callable[[], T]) -> T:
        """What ``call`` gives when it runs in a namespace: sockets that it makes stay there."""
        return in_namespace_thread(namespace, call)

    # What there is

    def namespaces(self) -> set[str]:
        """All namespaces of this lab, the plugin's too."""
        return {path.name for path in NETNS.glob(f"{self.prefix}*")}

    def close(self) -> None:
        """Remove everything."""
        self.servers.close()
        remove_namespaces(self.namespaces())

    @staticmethod
    def clear_leftovers() -> None:
        """Remove the namespaces of labs whose process is gone."""
        pids = {found[1]: path.name for path in NETNS.glob("edget*") if (found := _PID.match(path.name))}
        gone = [pid for pid in pids if not Path("/proc", pid).exists()]
        remove_namespaces(path.name for pid in gone for path in NETNS.glob(f"edget{pid}n*"))


_PID = re.compile(r"edget(\d+)n")


def remove_namespaces(names: Iterable[str]) -> None:
    """Remove namespaces of these names, with all that is in them."""
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=True, timeout=30)
