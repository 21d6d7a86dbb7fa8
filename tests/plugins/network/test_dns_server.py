"""The node's DNS server, real, asked from a pod."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.network import Backend, NetworkPod, NetworkService, NetworkState, PodSandbox
from edgeagent.api.objects.service import ServicePort
from edgeagent_network.config import NetworkConfig
from edgeagent_network.dnsserver import DnsServer, Served
from edgeagent_network.generation import generation_of, netlink_socket
from edgeagent_network.nameguard import NameGuard
from edgeagent_network.network import KernelNetwork
from edgeagent_network.programs import Runner, started_in_namespace
from edgeagent_network.script import whole
from tests.plugins.network.servicemaking import backend, service, state
from tests.support.dnsclient import Kind, Reply, Upstream, ask
from tests.support.netlab import Lab
from tests.support.netprobe import in_namespace_thread
from tests.support.waiting import wait_for

SERVER = "169.254.20.10"
HTTP = ServicePort(port=80, name="http")
WEB = service("web", ["10.43.0.1", "fd43::1"], ports=[HTTP])
HEADLESS = service(
    "db", "None",
    {"sql": [backend("10.42.0.2", 5432, hostname="db-0"), backend("fd42::2", 5432, hostname="db-0"),
             backend("10.42.0.3", 5432), backend("10.42.0.4", 5432, hostname="db-2", ready=False)]},
    ports=[ServicePort(port=5432, name="sql")],
)  # fmt: skip
EARLY = service(
    "early", "None", [backend("10.42.0.9", hostname="e-0", ready=False)], publish_not_ready_addresses=True
)
OUTSIDE = service("outside", "", ports=(), type="ExternalName", external_name="www.example.com")
INSIDE = service("inside", "", ports=(), type="ExternalName", external_name="web.default.svc.cluster.local")
POD = NetworkPod(uid="u", namespace="shop", name="p", ips=["10.42.0.2", "fd42::2"])
D = "default.svc.cluster.local"


class World:
    """A node with a DNS server, a pod, and an upstream server on the LAN."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.pod = lab.pod("client", "10.42.0.7", "fd42::7")
        self.servers: list[DnsServer] = []

    def server(self, *, root: Path = Path("/"), run: Runner | None = None, **config: Any) -> DnsServer:
        """A server of this node, with the LAN's peer as its upstream if nothing else is said."""
        settings = NetworkConfig(**({"upstreams": [self.lab.lan4]} | config))
        host = self.lab.host
        made = DnsServer(
            settings, self.folder, run=run or host.run, start=started_in_namespace(host.name), root=root
        )
        self.servers.append(made)
        return made

    def ask(self, name: str, kind: Kind = "A", *, tcp: bool = False) -> Reply:
        """What the pod is answered."""
        return ask(self.pod, SERVER, name, kind, tcp=tcp)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with Lab() as lab:
        folder = tmp_path / "run"
        folder.mkdir(mode=0o700)
        made = World(lab, folder)
        yield made
        for server in made.servers:
            server.end()


def serves(told: Served) -> None:
    assert told == Served(addresses=[SERVER])


def reverse(ip: str) -> str:
    """The name of the address's name."""
    return ip_address(ip).reverse_pointer


ANSWERS: list[tuple[str, Kind, str, list[str]]] = [
    (f"web.{D}", "A", "NOERROR", ["A 10.43.0.1"]),
    (f"WEB.{D}", "AAAA", "NOERROR", ["AAAA fd43::1"]),
    (f"_http._tcp.web.{D}", "SRV", "NOERROR", [f"SRV 0 100 80 web.{D}."]),
    (f"web.{D}", "SRV", "NOERROR", []),
    (f"db.{D}", "A", "NOERROR", ["A 10.42.0.2", "A 10.42.0.3"]),
    (f"db.{D}", "AAAA", "NOERROR", ["AAAA fd42::2"]),
    (f"db-0.db.{D}", "A", "NOERROR", ["A 10.42.0.2"]),
    (f"db-2.db.{D}", "A", "NXDOMAIN", []),
    (f"10-42-0-3.db.{D}", "A", "NOERROR", ["A 10.42.0.3"]),
    (f"_sql._tcp.db.{D}", "SRV", "NOERROR",
     [f"SRV 0 50 5432 10-42-0-3.db.{D}.", f"SRV 0 50 5432 db-0.db.{D}."]),
    (f"early.{D}", "A", "NOERROR", ["A 10.42.0.9"]),
    (f"e-0.early.{D}", "A", "NOERROR", ["A 10.42.0.9"]),
    (f"outside.{D}", "A", "NOERROR", ["A 198.51.100.7", "CNAME www.example.com."]),
    (f"outside.{D}", "CNAME", "NOERROR", ["CNAME www.example.com."]),
    (f"inside.{D}", "A", "NOERROR", ["A 10.43.0.1", f"CNAME web.{D}."]),
    ("10-42-0-2.shop.pod.cluster.local", "A", "NOERROR", ["A 10.42.0.2"]),
    ("fd42--2.shop.pod.cluster.local", "AAAA", "NOERROR", ["AAAA fd42::2"]),
    ("dns-version.cluster.local", "TXT", "NOERROR", ["TXT 1.1.0"]),
    ("1.0.43.10.in-addr.arpa", "PTR", "NOERROR", [f"PTR web.{D}."]),
    (reverse("fd43::1"), "PTR", "NOERROR", [f"PTR web.{D}."]),
    ("2.0.42.10.in-addr.arpa", "PTR", "NOERROR", [f"PTR db-0.db.{D}."]),
    (reverse("fd42::2"), "PTR", "NOERROR", [f"PTR db-0.db.{D}."]),
    ("3.0.42.10.in-addr.arpa", "PTR", "NOERROR", [f"PTR 10-42-0-3.db.{D}."]),
    ("9.0.42.10.in-addr.arpa", "PTR", "NOERROR", [f"PTR e-0.early.{D}."]),
    ("1.0.43.10.in-addr.arpa", "TXT", "NOERROR", []),
    (D, "A", "NOERROR", []),
    (f"nobody.{D}", "A", "NXDOMAIN", []),
    ("nowhere.cluster.local", "AAAA", "NXDOMAIN", []),
    (f"www.example.com.{D}", "A", "NXDOMAIN", []),
    ("files.example.org", "A", "NOERROR", ["A 198.51.100.7"]),
]  # fmt: skip


def test_every_kind_of_name_over_udp_and_tcp(world: World) -> None:
    upstream = Upstream(world.lab.lan, world.lab.lan4)
    told = NetworkState(node="here", services=[WEB, HEADLESS, EARLY, OUTSIDE, INSIDE], pods=[POD])
    serves(world.server().reconcile(told))
    for tcp in (False, True):
        for name, kind, code, records in ANSWERS:
            reply = world.ask(name, kind, tcp=tcp)
            assert (name, kind, reply.code, reply.records) == (name, kind, code, records)
    assert set(upstream.asked) == {"www.example.com.", "files.example.org."}  # never one of the cluster's
    upstream.close()


def test_services_come_and_go_without_a_restart_and_what_it_remembers_stays(world: World) -> None:
    upstream = Upstream(world.lab.lan, world.lab.lan4, ttl=300)
    server = world.server()
    serves(server.reconcile(state(WEB)))
    pid = server.pid
    assert world.ask("files.example.org").code == "NOERROR"
    assert world.ask(f"late.{D}").code == "NXDOMAIN"
    late = service("late", "10.43.0.2")
    serves(server.reconcile(state(WEB, late)))
    assert world.ask(f"late.{D}").records == ["A 10.43.0.2"]
    serves(server.reconcile(state(WEB, service("late", "10.43.0.3"))))
    assert world.ask(f"late.{D}").records == ["A 10.43.0.3"]
    serves(server.reconcile(state(WEB)))
    assert world.ask(f"late.{D}").code == "NXDOMAIN"
    assert world.ask(f"web.{D}").records == ["A 10.43.0.1"]
    assert server.pid == pid
    assert world.ask("files.example.org").code == "NOERROR"
    assert upstream.asked == ["files.example.org."]
    upstream.close()


def test_names_of_addresses_follow_and_all_others_are_for_others_to_answer(world: World) -> None:
    upstream = Upstream(world.lab.lan, world.lab.lan4)
    control: list[tuple[str, ...]] = []
    run = world.lab.host.run

    def noting(argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] == "unbound-control":
            control.append((*argv[6:], *stdin.splitlines()))
        return run(argv, stdin, check=check)

    server = world.server(run=noting)
    others = [service(f"s{number}", f"10.43.7.{number}") for number in range(1, 200)]

    def point(*backends: Backend) -> None:
        control.clear()
        serves(server.reconcile(state(WEB, service("db", "None", list(backends)), *others)))

    def name(last: int) -> list[str]:
        return world.ask(f"{last}.0.42.10.in-addr.arpa", "PTR").records

    point(backend("10.42.0.2"), backend("10.42.0.3"))
    assert (name(2), name(3)) == ([f"PTR 10-42-0-2.db.{D}."], [f"PTR 10-42-0-3.db.{D}."])
    pid = server.pid
    point(backend("10.42.0.2", hostname="db-0"), backend("10.42.0.3"))
    assert (name(2), name(3)) == ([f"PTR db-0.db.{D}."], [f"PTR 10-42-0-3.db.{D}."])
    assert control[-2:] == [
        ("local_datas_remove", "2.0.42.10.in-addr.arpa."),
        ("local_datas", f"2.0.42.10.in-addr.arpa. 5 IN PTR db-0.db.{D}."),
    ]
    assert upstream.asked == []
    point(backend("10.42.0.2", hostname="db-0"), backend("10.42.0.3", ready=False))
    assert (name(2), name(3)) == ([f"PTR db-0.db.{D}."], [])
    assert world.ask("200.7.43.10.in-addr.arpa", "PTR").code == "NOERROR"
    assert world.ask(reverse("2001:db8::7"), "PTR").code == "NOERROR"
    assert set(upstream.asked) == {
        "3.0.42.10.in-addr.arpa.", "200.7.43.10.in-addr.arpa.", f"{reverse('2001:db8::7')}.",
    }  # fmt: skip
    assert server.pid == pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.pid not in (0, pid), what="another one")
    wait_for(lambda: server.reconcile(state(WEB)) == Served(addresses=[SERVER]), what="it to serve")
    assert world.ask(reverse("fd43::1"), "PTR").records == [f"PTR web.{D}."]
    assert name(2) == []
    upstream.close()


def test_what_was_once_asked_is_answered_when_nobody_can_be_asked(world: World) -> None:
    upstream = Upstream(world.lab.lan, world.lab.lan4, ttl=2)
    server = world.server()
    serves(server.reconcile(state(WEB)))
    fresh = world.ask("files.example.org")
    assert fresh.records == ["A 198.51.100.7"]
    upstream.close()
    wait_for(lambda: world.ask("files.example.org").ttls == [1])
    # A stale answer's is 30 (RFC 8767, section 4), or with newer versions its first one where that is less.
    wait_for(lambda: world.ask("files.example.org").ttls in ([30], [2]))
    world.lab.host.ip("link set uplink down")
    assert world.ask("files.example.org").records == ["A 198.51.100.7"]
    assert world.ask(f"web.{D}").records == ["A 10.43.0.1"]
    assert world.ask("never.example.org").code == "SERVFAIL"


def test_a_new_answer_comes_as_soon_as_the_uplink_is_back(world: World) -> None:
    server = world.server()
    told = state(WEB)
    serves(server.reconcile(told))
    with pytest.raises(TimeoutError):  # nobody listens there
        ask(world.pod, SERVER, "files.example.org", timeout=0.5)
    upstream = Upstream(world.lab.lan, world.lab.lan4)
    serves(server.reconcile(NetworkState(node="here", services=told.services, connected=True)))
    wait_for(lambda: world.ask("files.example.org").records == ["A 198.51.100.7"])
    upstream.close()


def test_it_comes_back_with_all_names_when_it_is_killed(world: World) -> None:
    server = world.server()
    serves(server.reconcile(state(WEB)))
    serves(server.reconcile(state(WEB, HEADLESS)))
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: server.pid not in (0, pid))
    wait_for(lambda: server.reconcile(state(WEB, HEADLESS)) == Served(addresses=[SERVER]))
    assert world.ask(f"db-0.db.{D}").records == ["A 10.42.0.2"]


def test_pods_are_not_sent_to_one_that_cannot_serve(world: World) -> None:
    host = world.lab.host
    (world.folder / "second").mkdir()
    first = world.server()
    serves(first.reconcile(state()))
    second = DnsServer(
        NetworkConfig(), world.folder / "second", run=host.run, start=started_in_namespace(host.name)
    )
    world.servers.append(second)
    told = second.reconcile(state())
    assert told.addresses == []
    assert told.retry_after > 0
    [problem] = told.problems
    assert (problem.kind, problem.name, problem.reason) == ("Node", "here", "DnsNotServing")
    assert "can't bind socket: Address already in use" in problem.message
    first.end()
    wait_for(lambda: second.reconcile(state()).addresses == [SERVER])


def test_it_has_no_rights_and_ends_with_the_process_that_started_it(world: World) -> None:
    server = world.server()
    serves(server.reconcile(state()))
    status = Path(f"/proc/{server.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) != {"0"}
    assert int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE
    assert fields["NoNewPrivs"] == "1"
    pid = server.pid
    server.end()
    assert server.pid == 0
    assert not Path(f"/proc/{pid}").exists()


def test_it_asks_for_no_more_of_the_kernels_memory_than_others(world: World) -> None:
    serves(world.server().reconcile(state()))
    listing = world.lab.host.run(["ss", "--no-header", "-lunm", "sport = :53"])
    [held] = re.findall(r",tb(\d+),", listing)
    assert int(held) == int(Path("/proc/sys/net/core/wmem_default").read_text())


def test_it_dies_with_an_agent_that_is_killed(world: World) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from edgeagent.api.network import NetworkState\n"
        "from edgeagent_network.config import NetworkConfig\n"
        "from edgeagent_network.dnsserver import DnsServer\n"
        "server = DnsServer(NetworkConfig(upstreams=['192.0.2.1']), Path(sys.argv[1]))\n"
        "server.reconcile(NetworkState(node='here'))\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    enter = ["nsenter", f"--net=/run/netns/{world.lab.host.name}"]
    argv = [*enter, sys.executable, "-c", code, str(world.folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        assert pid > 0
        agent.kill()
        agent.wait()
        wait_for(lambda: not Path(f"/proc/{pid}").exists())
    serves(world.server().reconcile(state(WEB)))  # what the other left behind is no hindrance
    assert world.ask(f"web.{D}").records == ["A 10.43.0.1"]


def test_a_neighbour_may_not_ask(world: World) -> None:
    host, lan = world.lab.host, world.lab.lan
    serves(world.server().reconcile(state(WEB)))
    subprocess.run(["ip", "-n", lan, "route", "add", SERVER, "via", host.ip4], check=True)
    assert ask(lan, SERVER, f"web.{D}").records == ["A 10.43.0.1"]
    fragments, _ = NameGuard(NetworkConfig()).fragments(state())
    host.nft(whole(fragments).text())
    with pytest.raises(TimeoutError):
        ask(lan, SERVER, f"web.{D}", timeout=0.5)
    assert world.ask(f"web.{D}").records == ["A 10.43.0.1"]
    assert ask(host.name, SERVER, f"web.{D}").records == ["A 10.43.0.1"]


# What is wrong


def test_a_bad_upstream_is_named_and_the_others_are_asked(world: World) -> None:
    upstream = Upstream(world.lab.lan, world.lab.lan4)
    told = world.server(upstreams=["dns.example.com", world.lab.lan4]).reconcile(state(WEB))
    assert told.addresses == [SERVER]
    [problem] = told.problems
    assert (problem.kind, problem.name, problem.reason) == ("Node", "here", "UpstreamInvalid")
    assert problem.message == "plugins.network.upstreams: 'dns.example.com' is not an IP address"
    assert world.ask("files.example.org").records == ["A 198.51.100.7"]
    upstream.close()


def test_without_an_upstream_the_cluster_has_names_until_there_is_one(world: World, tmp_path: Path) -> None:
    server = world.server(upstreams=[], root=tmp_path)
    told = server.reconcile(state(WEB))
    assert told.addresses == [SERVER]
    assert [one.reason for one in told.problems] == ["UpstreamInvalid"]
    pid = server.pid
    assert world.ask(f"web.{D}").records == ["A 10.43.0.1"]
    assert world.ask(reverse("10.43.0.1"), "PTR").records == [f"PTR web.{D}."]
    assert world.ask("files.example.org").code == "REFUSED"
    assert world.ask(reverse("10.43.0.2"), "PTR").code == "REFUSED"
    assert world.ask(reverse("fd43::2"), "PTR").code == "REFUSED"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(f"nameserver {world.lab.lan4}\n")
    upstream = Upstream(world.lab.lan, world.lab.lan4)
    serves(server.reconcile(state(WEB)))
    assert world.ask("files.example.org").records == ["A 198.51.100.7"]
    assert world.ask(reverse("10.43.0.1"), "PTR").records == [f"PTR web.{D}."]
    assert world.ask(reverse("10.43.0.2"), "PTR").code == "NOERROR"
    assert world.ask(reverse("fd43::2"), "PTR").code == "NOERROR"
    assert world.ask(f"nobody.{D}").code == "NXDOMAIN"
    assert server.pid == pid
    upstream.close()


@pytest.mark.parametrize(
    ("config", "reason", "words"),
    [
        ({"dns_address": "dns"}, "ConfigInvalid", "plugins.network.dns_address: 'dns' is not an IP address"),
        ({"cluster_domain": "a b"}, "ConfigInvalid", "plugins.network.cluster_domain: 'a b' is not"),
    ],
)
def test_bad_config_is_a_problem_of_the_node(
    world: World, config: dict[str, Any], reason: str, words: str
) -> None:
    told = world.server(**config).reconcile(state(WEB))
    [problem] = told.problems
    assert (told.addresses, told.retry_after, problem.kind, problem.reason) == ([], 0, "Node", reason)
    assert words in problem.message


def test_without_the_program_pods_keep_the_nodes_dns(world: World) -> None:
    def find(program: str) -> str | None:
        return None if program == "unbound" else program

    told = DnsServer(NetworkConfig(), world.folder, run=world.lab.host.run, find=find).reconcile(state(WEB))
    [problem] = told.problems
    assert (told.addresses, problem.kind, problem.reason) == ([], "Node", "ProgramMissing")
    assert "install the packages unbound" in problem.message


def test_it_may_be_off(world: World) -> None:
    assert world.server(dns="off").reconcile(state(WEB)) == Served()
    assert list(world.folder.iterdir()) == []


def test_a_service_without_a_possible_name_is_named(world: World) -> None:
    bad: NetworkService = service(
        "bad", "", ports=(), type="ExternalName", external_name="x\n. 5 IN A 1.2.3.4"
    )
    told = world.server().reconcile(state(WEB, bad))
    assert told.addresses == [SERVER]
    assert [(one.kind, one.name, one.reason) for one in told.problems] == [("Service", "bad", "NameInvalid")]
    assert world.ask(f"web.{D}").records == ["A 10.43.0.1"]


# As a part of the network


def test_pods_of_the_network_ask_it(world: World, tmp_path: Path) -> None:
    host = world.lab.host
    config = NetworkConfig(
        upstreams=[world.lab.lan4],
        namespace_prefix=host.pod_prefix,
        service_cidrs=["10.43.0.0/16", "fd43::/112"],
    )
    server = DnsServer(config, world.folder, run=host.run, start=started_in_namespace(host.name))
    world.servers.append(server)
    with in_namespace_thread(host.name, netlink_socket) as opened:
        network = KernelNetwork(config, tmp_path, run=host.run, generation=generation_of(opened), dns=server)
        attachment = network.attach(PodSandbox(uid="12345678-aaaa", namespace="shop", name="p"))
        report = network.reconcile(state(WEB))
    assert (report.dns, report.problems) == ([SERVER], [])
    for tcp in (False, True):
        reply = ask(Path(attachment.namespace_path).name, SERVER, f"web.{D}", tcp=tcp)
        assert reply.records == ["A 10.43.0.1"]
    assert SERVER in host.run(["nft", "list", "chain", "inet", "edgeagent", "names_input"])
