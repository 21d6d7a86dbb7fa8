"""Pods on a host, by the whole plugin: they talk, they stay, nothing of them is left."""

import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.network import Backend, HostPort, NetworkPod, NetworkService, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec
from edgeagent.api.objects.service import Service, ServicePort, ServiceSpec
from edgeagent_network.programs import in_namespace
from edgeagent_network.ruleset import TABLE
from edgeagent_network.sandbox import link_name
from tests.plugins.network.netkit import Node, sandbox, state_of
from tests.support.netlab import Lab
from tests.support.netprobe import Probe, socket_of
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(forwarding=False) as made:
        for protocol, port in (("TCP", 80), ("UDP", 53)):
            for place in (made.lan, made.host.name):
                made.servers.serve(place, port, protocol)  # type: ignore[arg-type]
        yield made


@pytest.fixture
def node(lab: Lab, tmp_path: Path) -> Iterator[Node]:
    made = Node(lab, lab.host, tmp_path)
    yield made
    made.start()
    for uid in [path.name.removeprefix(lab.host.pod_prefix) for path in spaces(made)]:
        made.detach(uid)
    lab.host.nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
    made.close()


def spaces(node: Node) -> list[Path]:
    return sorted(Path("/run/netns").glob(f"{node.host.pod_prefix}*"))


def serve(node: Node, *uids: str) -> None:
    for uid in uids:
        node.lab.serve(node.space(uid), 80)
        node.lab.serve(node.space(uid), 53, protocol="UDP")


def talks(node: Node, *ways: tuple[str, str, str, str]) -> None:
    """Each way is FROM, ADDRESS, who answers, and whom it sees."""
    for protocol, port in (("TCP", 80), ("UDP", 53)):
        probes = [Probe(start, address, port, protocol) for start, address, _, _ in ways]  # type: ignore[arg-type]
        outcomes = node.lab.probes(probes, timeout=3)
        found = [(o.kind, o.server, o.seen) for o in outcomes]
        assert found == [("answer", server, seen) for _, _, server, seen in ways], protocol


def test_pods_reach_each_other_the_host_and_the_lan_in_both_families(lab: Lab, node: Node) -> None:
    first, second = node.attach("one"), node.attach("two")
    assert (first.ips, second.ips) == (["10.42.0.2", "fd42::2"], ["10.42.0.3", "fd42::3"])
    assert first.namespace_path == f"/run/netns/{node.space('one')}"
    assert node.network.reconcile(state_of("one", "two")).problems == []
    serve(node, "one", "two")
    one, two, host = node.space("one"), node.space("two"), lab.host
    talks(
        node,
        (one, "10.42.0.3", two, "10.42.0.2"),
        (one, "fd42::3", two, "fd42::2"),
        (one, "10.42.0.1", host.name, "10.42.0.2"),
        (one, "fd42::1", host.name, "fd42::2"),
        (host.name, "10.42.0.3", two, "10.42.0.1"),
        (host.name, "fd42::3", two, "fd42::1"),
        # The LAN sees the host's own address.
        (one, lab.lan4, lab.lan, host.ip4),
        (one, lab.lan6, lab.lan, host.ip6),
        (one, "10.42.0.2", one, "10.42.0.2"),
    )
    assert lab.probe(one, host.ip4, 80, timeout=3).server == host.name


def test_attach_and_detach_may_be_repeated(node: Node) -> None:
    node.attach("keep")
    before = node.seen()
    first = node.attach("one")
    made = node.seen()
    assert node.attach("one") == first
    assert node.seen() == made
    node.detach("one")
    node.detach("one")
    node.detach("never there")
    assert node.seen() == before


def test_a_pod_that_is_there_is_looked_at_once_and_left_alone(node: Node) -> None:
    node.attach("one")
    commands: list[Sequence[str]] = []

    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        commands.append(argv)
        return node.host.run(argv, stdin, check=check)

    node.start(run)
    node.attach("one")
    commands.clear()
    node.attach("one")
    assert [list(argv[:4]) for argv in commands] == [["ip", "-j", "link", "show"]]


@pytest.mark.parametrize("uid", ["../x", "", "a" * 65, "a b", "-x", "a/b", "x\n"])
def test_a_uid_that_names_no_namespace_is_refused(node: Node, uid: str) -> None:
    with pytest.raises(PermanentError, match="uid"):
        node.attach(uid)
    node.detach(uid)


def test_hashes_and_uuids_are_uids(node: Node) -> None:
    for uid in ("0" * 64, "8ba57a6b-7f0d-4f6c-9d0a-1c1f5d3c0b52"):
        assert Path(node.attach(uid).namespace_path).exists()


def test_a_restart_loses_no_packet_and_no_connection(lab: Lab, node: Node) -> None:
    node.attach("one")
    node.attach("two")
    node.network.reconcile(state_of("one", "two"))
    serve(node, "one", "two")
    space = node.space("one")
    stream = lab.inside(space, lambda: socket_of(socket.AF_INET, "TCP"))
    stream.setblocking(True)
    stream.settimeout(10)
    stream.connect((lab.lan4, 80))
    assert stream.recv(100).startswith(lab.lan.encode())
    datagrams = lab.inside(space, lambda: socket_of(socket.AF_INET6, "UDP"))
    datagrams.connect(("fd42::3", 53))
    sent = 0
    heard: set[int] = set()

    def listen() -> None:
        try:
            while True:
                heard.add(int(datagrams.recv(100).rpartition(b"\n")[2]))
        except BlockingIOError:
            return

    ended = threading.Event()
    trouble: list[Exception] = []

    def restart() -> None:
        try:
            for _ in range(3):
                network = node.start()
                network.reconcile(state_of())  # nobody is known yet
                assert network.attach(sandbox("one")).ips == ["10.42.0.2", "fd42::2"]
                network.attach(sandbox("two"))
                network.reconcile(state_of("one", "two"))
        except Exception as error:
            trouble.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=restart)
    thread.start()
    while not ended.wait(0.001):
        datagrams.send(str(sent).encode())
        sent += 1
        listen()
        stream.sendall(b"x" * 100)
        assert len(stream.recv(100, socket.MSG_WAITALL)) == 100
    thread.join()
    assert trouble == []

    def all_heard() -> bool:
        listen()
        return len(heard) == sent

    wait_for(all_heard, 5, "all datagrams to be answered")
    assert sent > 50
    stream.close()
    datagrams.close()


def test_after_a_reboot_pods_are_made_again_with_the_same_addresses(lab: Lab, node: Node) -> None:
    before = [node.attach(uid) for uid in ("one", "two")]
    for path in spaces(node):
        lab.host.run(["ip", "netns", "delete", path.name])
    lab.host.nft("flush ruleset")
    lab.host.run(["ip", "address", "flush", "dev", "lo", "scope", "global"])
    lab.host.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"])
    node.start()
    assert [node.attach(uid) for uid in ("one", "two")] == before
    node.network.reconcile(state_of("one", "two"))
    serve(node, "two")
    talks(node, (node.space("one"), "10.42.0.3", node.space("two"), "10.42.0.2"))


def test_a_crash_after_any_command_leaves_what_the_next_process_completes(node: Node) -> None:
    node.attach("keep")
    clean = node.seen()

    class CrashError(Exception):
        pass

    for what in ("attach", "detach"):
        for number in range(100):
            left = [number]

            def run(
                argv: Sequence[str], stdin: str = "", *, check: bool = True, left: list[int] = left
            ) -> str:
                # Half of a batch is done too: the process may have died within it.
                if left[0] == 0 and "-batch" in argv:
                    lines = stdin.splitlines(keepends=True)
                    node.host.run(argv, "".join(lines[: len(lines) // 2]), check=False)
                if left[0] == 0:
                    raise CrashError
                left[0] -= 1
                return node.host.run(argv, stdin, check=check)

            if what == "detach":
                node.start()
                node.attach("one")
            network = node.start(run)
            try:
                getattr(network, what)(sandbox("one"))
            except CrashError:
                crashed = True
            else:
                crashed = False
            node.start()
            assert node.attach("one").ips[0].startswith("10.42.0.")
            serve(node, "one")
            here, there = node.attach("keep").ips[0], node.attach("one").ips[0]
            talks(node, (node.space("keep"), there, node.space("one"), here))
            node.detach("one")
            assert node.seen() == clean
            if not crashed:
                break
        assert number > 0


def test_addresses_are_read_off_links_when_the_file_is_lost(node: Node) -> None:
    held = node.attach("one")
    (node.state_dir / "addresses.json").write_text("{")
    node.start()
    other = node.attach("two")
    assert set(other.ips).isdisjoint(held.ips)
    assert node.attach("one") == held
    problems = node.network.reconcile(state_of("one", "two")).problems
    assert [(one.kind, one.reason) for one in problems] == [("NodeNetwork", "AddressesUnreadable")]


def test_what_belongs_to_nobody_is_taken_back(lab: Lab, node: Node) -> None:
    node.attach("lost")
    node.attach("kept")
    node.attach("used")
    node.attach("told")
    held = node.state_dir / "addresses.json"
    held.write_bytes(held.read_bytes().replace(b'"told"', b'"gone"'))  # only its link tells of it now
    lab.host.run(["ip", "link", "delete", link_of(node, "lost")])  # and of this one only the file
    # Others' names may look like ours, and another prefix's links are marked as that.
    lab.host.run(["ip", "netns", "add", node.space("others")])
    theirs = {"edge0123456789", link_name("theirs")}
    lab.host.ip(
        *(f"link add name {link} type veth peer name x{link[4:]}" for link in theirs),
        f"link set dev {link_name('theirs')} alias edgeagent-pod:their-:theirs",
    )
    node.start()
    sleeper = subprocess_in(node.space("used"))
    try:
        node.attach("kept")
        node.network.reconcile(state_of())
        assert len(spaces(node)) == 5, "it may still be told of them"
        node.now += 3600
        node.network.reconcile(state_of())
        assert [path.name for path in spaces(node)] == [node.space(uid) for uid in ("kept", "others", "used")]
    finally:
        sleeper.kill()
        sleeper.wait()
    links = {link["ifname"] for link in lab.host.json("ip", "-j", "link", "show")}
    assert theirs <= links
    assert link_name("told") not in links
    lab.host.ip(*(f"link del {link}" for link in theirs))
    assert "10.42.0.2" not in lab.host.run(["nft", "list", "ruleset"])


def subprocess_in(space: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["nsenter", f"--net=/run/netns/{space}", "sleep", "600"])


def test_the_next_reconcile_repairs_what_someone_flushed(lab: Lab, node: Node) -> None:
    node.attach("one")
    state = state_of("one")
    node.network.reconcile(state)
    way = (node.space("one"), lab.lan4, lab.lan, lab.host.ip4)
    talks(node, way)
    lab.host.nft("flush ruleset")
    assert not lab.probe(node.space("one"), lab.lan4, 80, timeout=0.3)
    node.network.reconcile(state)
    talks(node, way)


def test_a_flushed_table_is_asked_for_within_a_minute_and_that_costs_no_process(node: Node) -> None:
    commands: list[Sequence[str]] = []

    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        commands.append(argv)
        return node.host.run(argv, stdin, check=check)

    node.start(run)
    node.attach("one")
    state = state_of("one")
    node.network.reconcile(state)
    commands.clear()
    assert node.network.reconcile(state).retry_after == 60
    assert commands == []


def test_a_pod_speaks_as_nobody_else(lab: Lab, node: Node) -> None:
    for uid in ("one", "two"):
        node.attach(uid)
    node.network.reconcile(state_of("one", "two"))
    serve(node, "two")
    one = node.space("one")
    lab.host.run(["ip", "-n", one, "address", "add", "10.42.0.77/32", "dev", "eth0"])
    lab.host.run(["ip", "-n", one, "address", "add", "fd42::77/128", "dev", "eth0", "nodad"])
    lab.host.run(["ip", "route", "add", "10.42.0.77/32", "dev", link_of(node, "one")])
    ways = [Probe(one, "10.42.0.3", 80, source="10.42.0.77"), Probe(one, "fd42::3", 80, source="fd42::77")]
    assert [o.kind for o in lab.probes(ways, timeout=0.4)] == ["timeout", "timeout"]
    talks(node, (one, "10.42.0.3", node.space("two"), "10.42.0.2"))


@pytest.mark.parametrize("overlay", ["vxlan", "route"])
def test_nobody_on_the_lan_speaks_as_a_pod(lab: Lab, node: Node, overlay: str) -> None:
    node.attach("one")
    nodes = [
        NodeNetwork(
            api_version="edgeagent/v1",
            metadata=ObjectMeta(name=name),
            spec=NodeNetworkSpec(pod_cidrs=cidrs, address=address, overlay=overlay),  # type: ignore[arg-type]
        )
        for name, cidrs, address in (
            ("a", node.cidrs, lab.host.ip4),
            ("b", ["10.42.1.0/24", "fd42:0:0:1::/64"], lab.lan4),
        )
    ]
    node.network.reconcile(msgspec.structs.replace(state_of("one"), nodes=nodes))
    server = lab.inside(node.space("one"), lambda: socket_of(socket.AF_INET, "UDP"))
    server.bind(("10.42.0.2", 5005))
    server.setblocking(True)
    server.settimeout(5)
    forged = ["10.42.1.5", "10.42.0.77"]
    lan = in_namespace(lab.lan)
    lan(["ip", "route", "replace", "10.42.0.2/32", "via", lab.host.ip4])
    for ip in forged:
        lan(["ip", "address", "add", f"{ip}/32", "dev", "lan0"])
    lab.host.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.uplink.rp_filter=0"])
    try:
        for ip in (*forged, lab.lan4):  # the last tells that those before it would be there
            client = lab.inside(lab.lan, lambda: socket_of(socket.AF_INET, "UDP"))
            client.bind((ip, 0))
            client.sendto(b"x", ("10.42.0.2", 5005))
            client.close()
        heard = []
        while lab.lan4 not in heard:
            heard.append(server.recvfrom(10)[1][0])
        assert heard == (["10.42.1.5", lab.lan4] if overlay == "route" else [lab.lan4])
    finally:
        server.close()
        for ip in forged:
            lan(["ip", "address", "del", f"{ip}/32", "dev", "lan0"])
        lan(["ip", "route", "del", "10.42.0.2/32"])
        node.network.reconcile(state_of("one"))


def link_of(node: Node, uid: str) -> str:
    links = node.host.json("ip", "-j", "link", "show", "type", "veth")
    return next(str(link["ifname"]) for link in links if f":{uid} " in link.get("ifalias", ""))


def own(cidrs: list[str], overlay: str = "none") -> NetworkState:
    spec = NodeNetworkSpec(pod_cidrs=cidrs, overlay=overlay)  # type: ignore[arg-type]
    nodes = [NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name="a"), spec=spec)]
    return NetworkState(node="a", nodes=nodes)


def test_the_hubs_range_is_used_and_remembered_and_pods_keep_theirs(lab: Lab, node: Node) -> None:
    assert node.attach("one").ips == ["10.42.0.2", "fd42::2"]
    assert node.network.reconcile(own(["10.50.0.0/24"])).problems == []
    node.start()
    assert node.attach("two").ips == ["10.50.0.2"]
    assert node.attach("one").ips == ["10.42.0.2", "fd42::2"]
    node.network.reconcile(own(["10.50.0.0/24"]))
    serve(node, "two")
    talks(node, (node.space("one"), "10.50.0.2", node.space("two"), "10.42.0.2"))
    node.detach("one")
    node.network.reconcile(own(["10.50.0.0/24"]))
    assert "10.42.0" not in str(node.seen())


def test_the_hubs_service_ranges_are_the_clusters(lab: Lab, node: Node) -> None:
    def ranges(service_cidrs: list[str]) -> str:
        spec = NodeNetworkSpec(pod_cidrs=node.cidrs, service_cidrs=service_cidrs, overlay="none")
        nodes = [NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name="a"), spec=spec)]
        assert node.network.reconcile(NetworkState(node="a", nodes=nodes)).problems == []
        return lab.host.run(["nft", "list", "set", "inet", TABLE, "cluster4"])

    assert "10.96.0.0/12" in (given := ranges(["10.96.0.0/12"]))
    assert "10.43" not in given
    assert "10.43.0.0/16" in ranges([])


def test_an_impossible_range_is_reported_and_the_one_before_stays(node: Node) -> None:
    node.attach("one")
    (problem,) = node.network.reconcile(own(["10.50.0.1/24"])).problems
    assert (problem.kind, problem.name, problem.reason) == ("NodeNetwork", "a", "InvalidPodCIDR")
    assert "10.50.0.1/24" in problem.message
    assert node.attach("two").ips == ["10.42.0.3", "fd42::3"]


def test_a_pod_range_on_the_hosts_own_network_keeps_pods_waiting(lab: Lab, node: Node) -> None:
    node.cidrs = ["192.168.0.0/16"]
    node.start()
    with pytest.raises(TemporaryError, match=r"192\.168\.0\.0/16 overlaps 192\.168\.77\.0/24.* uplink"):
        node.attach("one")
    (problem,) = node.network.reconcile(state_of()).problems
    assert (problem.kind, problem.reason) == ("NodeNetwork", "PodCIDRConflict")
    with pytest.raises(TemporaryError) as caught:
        node.attach("one")
    assert caught.value.reason == "PodCIDRConflict"
    assert spaces(node) == []
    assert node.network.reconcile(own(["10.50.0.0/24"])).problems == []
    assert node.attach("one").ips == ["10.50.0.2"]


def test_a_network_that_the_host_joins_later_is_noticed_and_so_is_that_it_left(lab: Lab, node: Node) -> None:
    node.attach("one")
    assert node.network.reconcile(state_of("one")).problems == []
    lab.host.ip("link add late type bridge", "link set late up", "route add 10.42.0.64/26 dev late")
    found = []
    for _ in range(2):
        node.now += 400
        node.network.reconcile(state_of("one"))
        found.append([one.reason for one in node.network.reconcile(state_of("one")).problems])
        if len(found) == 1:
            assert node.attach("one").ips[0] == "10.42.0.2", "who lives goes on living"
            with pytest.raises(TemporaryError, match=r"10\.42\.0\.0/24 overlaps 10\.42\.0\.64/26"):
                node.attach("two")
            lab.host.ip("link del late")
    assert found == [["PodCIDRConflict"], []]
    assert node.attach("two").ips[0] == "10.42.0.3"


def test_ranges_of_services_and_peers_on_the_hosts_network_are_reported(lab: Lab, node: Node) -> None:
    def described(name: str, cidr: str, address: str) -> NodeNetwork:
        spec = NodeNetworkSpec(
            pod_cidrs=[cidr], service_cidrs=["192.168.77.128/25"], address=address, overlay="vxlan"
        )
        return NodeNetwork(api_version="edgeagent/v1", metadata=ObjectMeta(name=name), spec=spec)

    nodes = [
        described("a", "10.42.0.0/24", lab.host.ip4),
        described("b", "192.168.77.0/26", "192.0.2.7"),
        described("c", "10.42.3.0/24", lab.lan4),
    ]
    found = node.network.reconcile(NetworkState(node="a", nodes=nodes)).problems
    assert [(one.name, one.reason) for one in found] == [
        ("a", "ServiceCIDRConflict"),
        ("b", "PodCIDRConflict"),
    ]
    assert [row["node"] for row in node.network.show("peers")] == ["c"]


def test_links_carry_what_the_overlay_leaves(lab: Lab, node: Node) -> None:
    node.attach("one")
    node.network.reconcile(own(node.cidrs, "vxlan"))
    node.attach("two")
    for uid in ("one", "two"):
        (link,) = lab.host.json("ip", "-j", "-n", node.space(uid), "link", "show", "dev", "eth0")
        assert link["mtu"] == 1450
    node.network.reconcile(own(node.cidrs, "none"))
    (link,) = lab.host.json("ip", "-j", "link", "show", "dev", link_of(node, "one"))
    assert link["mtu"] == 1500


def test_no_pod_teaches_the_host_a_router(lab: Lab, node: Node) -> None:
    lab.host.run(["sysctl", "-q", "-w", "net.ipv6.conf.uplink.accept_ra=1"])
    node.attach("one")
    assert lab.host.run(["sysctl", "-n", f"net.ipv6.conf.{link_of(node, 'one')}.accept_ra"]).strip() == "0"
    # The uplink still listens to its router, though the host forwards now.
    assert lab.host.run(["sysctl", "-n", "net.ipv6.conf.uplink.accept_ra"]).strip() == "2"
    assert lab.host.run(["sysctl", "-n", "net.ipv6.conf.all.forwarding"]).strip() == "1"


@pytest.mark.parametrize("missing", ["ip", "nft", "sysctl"])
def test_a_program_that_is_missing_is_named(node: Node, missing: str) -> None:
    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == missing:
            raise PermanentError(f"{missing} is not installed", reason="ProgramMissing")
        return node.host.run(argv, stdin, check=check)

    node.start(run)
    with pytest.raises(PermanentError, match=f"{missing} is not installed"):
        node.network.reconcile(state_of())


def test_a_kernel_without_veth_is_named(node: Node) -> None:
    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if "type veth" in stdin:
            raise TemporaryError("ip -batch -: Error: Unknown device type.", reason="NetworkFailed")
        return node.host.run(argv, stdin, check=check)

    node.start(run)
    with pytest.raises(PermanentError, match="veth") as caught:
        node.attach("one")
    assert caught.value.reason == "KernelFeatureMissing"


def udp_service(*backends: str) -> NetworkState:
    service = Service(
        api_version="v1",
        metadata=ObjectMeta(name="dns", namespace="default"),
        spec=ServiceSpec(
            cluster_ip="10.43.0.53", cluster_ips=["10.43.0.53"], ports=[ServicePort(port=53, protocol="UDP")]
        ),
    )
    ends = {"": [Backend(ip=ip, port=53) for ip in backends]}
    return NetworkState(node="a", services=[NetworkService(service=service, backends=ends)])


def test_a_udp_client_that_goes_on_asking_reaches_the_endpoint_that_is_there(lab: Lab, node: Node) -> None:
    for uid in ("client", "one", "two"):
        node.attach(uid)
    serve(node, "one", "two")
    client = lab.inside(node.space("client"), lambda: socket_of(socket.AF_INET, "UDP"))
    client.connect(("10.43.0.53", 53))
    client.setblocking(True)
    client.settimeout(1)

    def ask() -> str:
        try:
            client.send(b"?")
            return client.recv(200).split()[0].decode()
        except OSError:
            return ""

    node.network.reconcile(udp_service())
    assert ask() == ""
    node.network.reconcile(udp_service("10.42.0.3"))
    assert wait_for(ask, 5, "the first endpoint") == node.space("one")
    node.network.reconcile(udp_service("10.42.0.4"))
    assert wait_for(ask, 5, "the second endpoint") == node.space("two")
    client.close()


def test_flows_of_host_ports_are_forgotten_too_and_all_by_one_process(node: Node) -> None:
    forgotten: list[str] = []

    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == "conntrack":
            forgotten.append(stdin)
        return node.host.run(argv, stdin, check=check)

    network = node.start(run)
    ip = node.attach("one").ips[0]
    place = HostPort(host_port=5353, container_port=53, protocol="UDP")
    pod = NetworkPod(uid="one", namespace="default", name="one", ips=[ip], host_ports=[place])
    network.reconcile(msgspec.structs.replace(udp_service(ip, "10.42.0.9"), pods=[pod]))
    assert forgotten == []
    network.reconcile(udp_service())
    (said,) = forgotten
    assert f"--orig-port-dst 5353 --reply-src {ip}" in said
    assert said.count("--orig-dst 10.43.0.53") == 2


def test_conntrack_that_is_missing_is_a_problem_and_no_failure(node: Node) -> None:
    def run(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == "conntrack":
            raise PermanentError("conntrack is not installed", reason="ProgramMissing")
        return node.host.run(argv, stdin, check=check)

    network = node.start(run)
    assert network.reconcile(udp_service("10.42.0.3")).problems == []
    (problem,) = network.reconcile(udp_service("10.42.0.4")).problems
    assert (problem.kind, problem.reason) == ("NodeNetwork", "ProgramMissing")


@pytest.mark.slow
def test_a_thousand_pods_leave_nothing_behind(node: Node) -> None:
    node.attach("keep")
    node.network.reconcile(state_of("keep"))
    before = node.seen()
    for number in range(1000):
        node.attach(f"pod-{number}")
        if number % 20 == 0:
            node.network.reconcile(state_of("keep", f"pod-{number}"))
        node.detach(f"pod-{number}")
    node.network.reconcile(state_of("keep"))
    assert node.seen() == before
