"""What a change of Services does to those who are talking: nothing, but where it must."""

import socket
from collections.abc import Iterator, Sequence

import pytest

from edgeagent.api.network import NetworkService
from edgeagent.api.objects.service import (
    ClientIPConfig,
    ServicePort,
    SessionAffinityConfig,
)
from edgeagent_network.generation import generation_of, netlink_socket
from edgeagent_network.programs import run_program
from edgeagent_network.ruleset import Fragment
from edgeagent_network.servicerules import MAX_SPREAD
from edgeagent_network.services import Services
from edgeagent_network.table import Table
from edgeagent_network.translation import conntrack_input, removed_udp_endpoints
from tests.plugins.network.servicemaking import CONFIG, backend, ruleset, service, state
from tests.support.netlab import Lab
from tests.support.netprobe import Probe
from tests.support.waiting import wait_for

IPS = [("10.42.0.2", "fd42::2"), ("10.42.0.3", "fd42::3"), ("10.42.0.4", "fd42::4")]
VIPS = ("10.43.0.1", "fd43::1")


class World:
    """Three pods that serve, two that ask, and one table that is changed as it is on a node."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.servers = [lab.pod(f"server{number}", *ips) for number, ips in enumerate(IPS)]
        self.client = lab.pod("client", "10.42.0.10", "fd42::10")
        self.other = lab.pod("other", "10.42.0.11", "fd42::11")
        for pod in self.servers:
            lab.serve(pod, 80)
            lab.serve(pod, 53, protocol="UDP")
        self.netlink = lab.inside(lab.host.name, netlink_socket)
        self.reset()

    def reset(self) -> None:
        """As after a start of the agent, on a host without a table."""
        self.lab.host.nft("add table inet edgeagent\ndelete table inet edgeagent\n")
        self.services = Services(CONFIG)
        self.programs: list[str] = []
        self.table = Table(self.run, generation_of(self.netlink))
        self.applied: dict[str, Fragment] = {}
        self.frame = ruleset({}, [ip for ips in IPS for ip in ips])

    def run(self, argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        """Run a program on the host and remember which."""
        self.programs.append(argv[0])
        return self.lab.host.run(argv, stdin, check=check)

    def apply(self, *services: NetworkService) -> None:
        """Put these in force, as the plugin does."""
        made, problems = self.services.fragments(state(*services))
        assert problems == []
        nft = self.programs.count("nft")
        assert self.table.apply({**self.frame, **made}) == {}
        # No change is refused, which would put the whole table there anew.
        assert self.programs.count("nft") - nft <= 1
        if stale := removed_udp_endpoints(self.applied, made):
            self.run(["conntrack", "--load-file", "-"], conntrack_input(stale))
        self.applied = made

    def who(self, place: str, address: str, port: int = 80) -> str:
        """Who answers a new connection."""
        return self.lab.probe(place, address, port, timeout=3).server

    def connect(self, place: str, address: str, port: int) -> tuple[socket.socket, str]:
        """A connection that stays, and who is at its other end."""
        connection = self.lab.inside(place, lambda: socket.create_connection((address, port), 3))
        return connection, connection.recv(4096).decode().split()[0]


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    with Lab() as lab:
        world = World(lab)
        yield world
        world.netlink.close()


@pytest.fixture
def world(shared: World) -> World:
    shared.reset()
    return shared


def web(family: int, *numbers: int, seconds: int | None = None) -> NetworkService:
    """A Service of these servers; with session affinity where ``seconds`` are given."""
    config = (
        None if seconds is None else SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=seconds))
    )
    return service(
        "web",
        VIPS[family],
        [backend(IPS[number][family]) for number in numbers],
        session_affinity="" if seconds is None else "ClientIP",
        session_affinity_config=config,
    )


@pytest.mark.parametrize("family", [0, 1])
def test_a_client_stays_with_its_backend_while_others_come_and_go(world: World, family: int) -> None:
    vip = VIPS[family]
    world.apply(web(family, 0, 1, 2, seconds=3600))
    first = world.who(world.client, vip)
    probes = [Probe(world.client, vip, 80)] * 50
    assert {outcome.server for outcome in world.lab.probes(probes, 3)} == {first}
    mine = world.servers.index(first)
    others = [number for number in range(3) if number != mine]
    for numbers in ([mine, others[0]], [mine], [*others, mine], [mine, others[1]]):
        world.apply(web(family, *numbers, seconds=3600))
        assert {outcome.server for outcome in world.lab.probes(probes, 3)} == {first}
    world.apply(web(family, *others, seconds=3600))
    second = world.who(world.client, vip)
    assert second in [world.servers[number] for number in others]
    assert {outcome.server for outcome in world.lab.probes(probes, 3)} == {second}


def test_clients_are_many_and_forgotten_in_time(world: World) -> None:
    world.apply(web(0, 0, 1, 2, seconds=1))
    world.who(world.client, VIPS[0])

    def remembered() -> int:
        listed = world.lab.host.json("nft", "-j", "list", "table", "inet", "edgeagent")
        sets = [one["set"] for one in listed["nftables"] if "set" in one]
        return sum(len(one.get("elem", ())) for one in sets if one["name"].startswith("affinity-"))

    wait_for(lambda: remembered() == 0, 10, "the client to be forgotten")
    # All of one address stay together, and not all addresses are at one backend.
    world.apply(web(0, 0, 1, 2, seconds=3600))
    clients = [f"192.168.77.{number}" for number in range(100, 130)]
    commands = [
        *(f"address add {ip}/24 dev lan0" for ip in clients),
        f"route replace {VIPS[0]} via {world.lab.host.ip4}",
    ]
    run_program(["ip", "-n", world.lab.lan, "-batch", "-"], "\n".join(commands) + "\n")
    probes = [Probe(world.lab.lan, VIPS[0], 80, source=ip) for ip in clients for _ in range(3)]
    outcomes = world.lab.probes(probes, 5)
    by_client = {
        ip: {o.server for o, p in zip(outcomes, probes, strict=True) if p.source == ip} for ip in clients
    }
    assert all(len(servers) == 1 for servers in by_client.values())
    assert set().union(*by_client.values()) == set(world.servers)
    assert remembered() == len(clients)


def test_any_number_of_backends_becomes_any_other_in_one_step(world: World) -> None:
    for number in (1, 0, 2, 32, 33, 1, 40, 3):
        backends = [backend(IPS[0][0], 80)] + [backend(f"10.42.1.{last}") for last in range(1, number)]
        world.apply(service("many", VIPS[0], backends[:number]))
        listed = world.lab.host.json("nft", "-j", "list", "map", "inet", "edgeagent", "backends4")
        held = next(one["map"].get("elem", []) for one in listed["nftables"] if "map" in one)
        assert len(held) == (number if number <= MAX_SPREAD else 0)


def test_connections_survive_every_change(world: World) -> None:
    world.apply(web(0, 0, 1, 2), service("other", "10.43.0.2", [backend(IPS[0][0])]))
    connection, server = world.connect(world.client, VIPS[0], 80)
    with connection:
        mine = world.servers.index(server)
        others = [number for number in range(3) if number != mine]
        for change in (
            [web(0, 0, 1, 2), service("other", "10.43.0.2", [])],
            [web(0, 0, 1, 2), service("third", "10.43.0.3", [backend(IPS[1][0])])],
            # Its own backend goes: it finishes what it began; new ones go elsewhere.
            [web(0, *others)],
            [],
        ):
            world.apply(*change)
            connection.sendall(b"still there?")
            assert connection.recv(4096) == b"still there?"
            if change and change[0].backends[""] == web(0, *others).backends[""]:
                answers = world.lab.probes([Probe(world.client, VIPS[0], 80)] * 40, 3)
                assert {answer.server for answer in answers} == {world.servers[number] for number in others}
        # A restart of the agent puts all of the table there anew.
        world.reset()
        world.apply(web(0, *others))
        connection.sendall(b"and now?")
        assert connection.recv(4096) == b"and now?"


@pytest.mark.parametrize("family", [0, 1])
def test_a_udp_client_leaves_a_backend_that_went(world: World, family: int) -> None:
    port = ServicePort(port=53, protocol="UDP", node_port=30053)

    def dns(*numbers: int) -> NetworkService:
        backends = [backend(IPS[number][family], 53) for number in numbers]
        return service("dns", VIPS[family], backends, ports=[port], type="NodePort")

    def ask(client: socket.socket) -> str:
        def answered() -> str:
            try:
                client.send(b"?")
                return client.recv(4096).decode().split()[0]
            except (TimeoutError, ConnectionRefusedError):
                return ""

        return wait_for(answered, 5, "an answer")

    kind = socket.AF_INET6 if family else socket.AF_INET
    host = (world.lab.host.ip4, world.lab.host.ip6)[family]
    clients: list[socket.socket] = []
    try:
        for address, number in ((VIPS[family], 53), (host, 30053)):
            client = world.lab.inside(world.client, lambda: socket.socket(kind, socket.SOCK_DGRAM))
            clients.append(client)
            client.settimeout(0.3)
            client.connect((address, number))
        world.apply(dns(0))
        assert [ask(client) for client in clients] == [world.servers[0]] * 2
        world.apply(dns(0, 1))
        # Nothing of theirs went away.
        assert [ask(client) for client in clients] == [world.servers[0]] * 2
        world.apply(dns(1))
        assert [ask(client) for client in clients] == [world.servers[1]] * 2
        world.apply(dns())
        assert world.lab.probe(world.client, VIPS[family], 53, "UDP").kind == "refused"
        world.apply(dns(2))
        assert [ask(client) for client in clients] == [world.servers[2]] * 2
    finally:
        for client in clients:
            client.close()


def test_nothing_to_do_is_no_program_run(world: World) -> None:
    some = [web(0, 0, 1), service("sticky", "10.43.0.2", [backend(IPS[0][0])], session_affinity="ClientIP")]
    world.apply(*some)
    world.who(world.client, "10.43.0.2")
    world.programs.clear()
    world.apply(*some)
    assert world.programs == []
    some[0] = web(0, 0, 1, 2)
    world.apply(*some)
    assert world.programs == ["nft"]
