"""A whole plugin on a lab's host, for the tests of the network as a whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent_network.ruleset import TABLE
from tests.plugins.network.netkit import Node
from tests.plugins.network.netpods import spaces
from tests.support.netlab import Lab


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
