"""Pods on a host, by the whole plugin: they talk, they stay, nothing of them is left."""

import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import NodeNetwork, NodeNetworkSpec
from edgeagent_network.programs import in_namespace
from edgeagent_network.sandbox import link_name
from tests.plugins.network.netkit import Node, sandbox, state_of
from tests.plugins.network.netpods import link_of, serve, spaces, talks
from tests.support.netlab import Lab
from tests.support.netprobe import Probe, socket_of
from tests.support.waiting import wait_for


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


@pytest.mark.slow
@pytest.mark.minutes
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
