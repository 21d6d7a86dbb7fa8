"""The lab itself: what it says of a connection is so."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.netlab import Lab
from tests.support.netprobe import Probe
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


def test_pods_a_host_and_a_peer_answer_by_name(lab: Lab) -> None:
    one = lab.pod("one", "10.1.0.2", "fd01::2")
    two = lab.pod("two", "10.1.0.3", "fd01::3")
    for place in (one, two, lab.host.name, lab.lan):
        lab.serve(place, 80)
        lab.serve(place, 53, protocol="UDP")
    cases = [
        *((place, address, server, seen) for place, seen in ((one, "10.1.0.2"),)
          for address, server in (("10.1.0.3", two), (lab.host.ip4, lab.host.name))),
        *((place, address, server, seen) for place, seen in ((one, "fd01::2"),)
          for address, server in (("fd01::3", two), (lab.host.ip6, lab.host.name))),
        (lab.host.name, lab.lan4, lab.lan, lab.host.ip4),
        (lab.host.name, lab.lan6, lab.lan, lab.host.ip6),
        (lab.host.name, "10.1.0.3", two, lab.host.ip4),
        (lab.lan, lab.host.ip6, lab.host.name, lab.lan6),
    ]  # fmt: skip
    for protocol, port in (("TCP", 80), ("UDP", 53)):
        probes = [Probe(place, address, port, protocol) for place, address, _, _ in cases]  # type: ignore[arg-type]
        found = [(o.kind, o.server, o.seen) for o in lab.probes(probes, timeout=2)]
        assert found == [("answer", server, seen) for _, _, server, seen in cases]


def refused(lab: Lab, address: str) -> bool:
    return lab.probe(lab.host.name, address, 7, "UDP").kind == "refused"


def test_what_is_refused_and_what_is_lost(lab: Lab) -> None:
    three = lab.pod("three", "10.1.0.4", "fd01::4")
    for address in ("10.1.0.4", "fd01::4"):
        assert lab.probe(lab.host.name, address, 7).kind == "refused"
        # The kernel sends so many ICMP errors a second, to all of the machine's namespaces together.
        wait_for(partial(refused, lab, address), what="to be refused")
    # The peer does not know the way back to a pod.
    lab.serve(lab.lan, 81)
    assert lab.probe(three, lab.lan4, 81, timeout=0.3).kind == "timeout"
    lab.serve(three, 82)
    assert lab.probe(lab.host.name, "10.1.0.4", 82)
    lab.servers.stop(three, 82)
    assert lab.probe(lab.host.name, "10.1.0.4", 82).kind == "refused"


def test_a_thousand_probes_take_no_process_and_little_time(lab: Lab) -> None:
    four = lab.pod("four", "10.1.0.5")
    lab.serve(four, 80)
    begun = time.monotonic()
    assert all(lab.probes([Probe(lab.host.name, "10.1.0.5", 80)] * 1000, timeout=5))
    assert time.monotonic() - begun < 5


def test_a_second_host_is_on_the_same_lan() -> None:
    with Lab() as lab:
        other = lab.add_host("b")
        lab.serve(other.name, 80)
        assert lab.probe(lab.host.name, other.ip4, 80, timeout=3).server == other.name
        assert lab.probe(lab.host.name, other.ip6, 80, timeout=3).server == other.name
        names = lab.namespaces()
        assert len(names) == 3
    assert not lab.namespaces() & names
