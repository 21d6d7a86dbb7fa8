"""Services on a whole node: what its host serves itself, and packets that conntrack takes for invalid."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.network import NetworkPod, NetworkState
from edgeagent.api.objects.service import ServicePort
from tests.plugins.network.netkit import Node
from tests.plugins.network.servicemaking import backend, service
from tests.support.netlab import Lab
from tests.support.netprobe import Transport

VIPS = ("10.43.0.1", "fd43::1")
WEB_VIP = "10.43.0.2"
HOST_PORT, WEB_PORT = 8090, 8091


class World:
    """Services of what the host itself serves, by both protocols, and of the pod ``web``."""

    def __init__(self, node: Node) -> None:
        self.node, self.lab = node, node.lab
        self.host = node.lab.host.name
        attached = {name: node.attach(name) for name in ("web", "client")}
        self.web, self.client = node.space("web"), node.space("client")
        self.web_ip, self.client_ip = attached["web"].ips[0], attached["client"].ips[0]
        for protocol in ("TCP", "UDP"):
            self.lab.serve(self.host, HOST_PORT, protocol=protocol)
        own = [backend(ip, HOST_PORT) for ip in (self.lab.host.ip4, self.lab.host.ip6)]
        services = [
            service(
                "own", VIPS, {"tcp": own, "udp": own},
                ports=[ServicePort(name="tcp", port=80), ServicePort(name="udp", port=80, protocol="UDP")],
            ),
            service("web", WEB_VIP, [backend(self.web_ip, WEB_PORT)]),
        ]  # fmt: skip
        pods = [
            NetworkPod(uid=name, namespace="default", name=name, ips=one.ips, ready=True)
            for name, one in attached.items()
        ]
        assert node.network.reconcile(NetworkState(node="a", pods=pods, services=services)).problems == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("state")
    with Lab(forwarding=False) as lab:
        node = Node(lab, lab.host, folder)
        yield World(node)
        node.close()


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("vip", VIPS)
def test_the_host_reaches_what_it_serves_itself(world: World, vip: str, protocol: Transport) -> None:
    answer = world.lab.probe(world.host, vip, 80, protocol)
    assert answer.server == world.host
    assert answer.seen in (world.lab.host.ip4, world.lab.host.ip6), "the host's own address, not a pod's"


def test_what_conntrack_takes_for_invalid_never_passes_untranslated(world: World) -> None:
    """The client would answer a segment from an address it never spoke to with a reset, which ends the
    connection (https://github.com/kubernetes/kubernetes/issues/74839).
    """
    lab = world.lab
    with (
        lab.inside(world.web, _listener) as listener,
        lab.inside(world.client, lambda: socket.create_connection((WEB_VIP, 80), 5)) as client,
        listener.accept()[0] as server,
        lab.inside(world.client, _raw_tcp) as seen,
        lab.inside(world.web, _raw_tcp) as sender,
    ):
        segment = _segment(world.web_ip, world.client_ip, WEB_PORT, client.getsockname()[1])
        sender.sendto(segment, (world.client_ip, 0))
        server.sendall(b"the end")
        sources = set()
        while not (packet := seen.recv(2048)).endswith(b"the end"):
            sources.add(socket.inet_ntoa(packet[12:16]))
        assert sources <= {WEB_VIP}
        assert client.recv(100) == b"the end"


def _listener() -> socket.socket:
    listener = socket.create_server(("0.0.0.0", WEB_PORT))  # noqa: S104
    listener.settimeout(5)
    return listener


def _raw_tcp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    made.settimeout(5)
    return made


def _segment(source: str, target: str, source_port: int, target_port: int) -> bytes:
    """A segment with an acknowledgement far outside of any window, and its checksum."""

    def of(checksum: int) -> bytes:
        words = (source_port, target_port, 0x12345678, 0x9ABCDEF0, 0x50, 0x10, 1000, checksum, 0)
        return struct.pack("!HHIIBBHHH", *words)

    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!HH", socket.IPPROTO_TCP, 20)
    total = sum(struct.unpack("!16H", pseudo + of(0)))
    total = (total & 0xFFFF) + (total >> 16)
    return of(~(total + (total >> 16)) & 0xFFFF)
