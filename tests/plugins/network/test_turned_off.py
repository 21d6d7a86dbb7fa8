"""What the plugin leaves behind when it is turned off is taken away by what its README says."""

from pathlib import Path

import msgspec
import pytest

import edgeagent_network
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.network import NodeNetworkSpec, Overlay
from tests.plugins.network.nodeskit import Nodes
from tests.support.wireguardlab import missing

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("overlay", ["vxlan", "wireguard", "route"])
def test_turned_off_it_is_taken_away_as_the_readme_says(tmp_path: Path, overlay: Overlay) -> None:
    if overlay == "wireguard" and missing():
        pytest.skip(missing())
    text = Path(edgeagent_network.__file__).with_name("README.md").read_text()
    section = text.partition("## Turning it off\n")[2].partition("\n## ")[0]
    commands = [line.split() for line in section.splitlines() if line.startswith("    ")]
    with Nodes(tmp_path, overlay, names=("a",)) as nodes:
        node = nodes.nodes["a"]
        node.detach("pod")
        node.host.run(["nft", "flush", "ruleset"])
        for ip in ("10.42.0.1/32", "fd42::1/128"):
            node.host.run(["ip", "address", "del", ip, "dev", "lo"])
        before = node.seen()
        nodes.objects["b"] = msgspec.structs.replace(
            nodes.objects["a"],
            metadata=ObjectMeta(name="b"),
            spec=NodeNetworkSpec(
                pod_cidrs=["10.42.1.0/24", *(["fd42:0:0:1::/64"] if overlay != "route" else [])],
                address=nodes.lab.lan4,
                public_key="a" * 42 + "Y=",
                overlay=overlay,
            ),
        )
        nodes.restart("a")
        node.attach("pod")
        assert nodes.reconcile("a").problems == []
        node.detach("pod")
        assert node.seen()["routes"] != before["routes"]
        assert len(commands) == 7
        for argv in commands:
            node.host.run(argv, check=False)
        node.host.run(["ip", "address", "flush", "dev", "lo", "to", "fd42::/48"])
        after = node.seen()
        if overlay == "wireguard":
            after["files"].remove("wireguard.key")
        assert after == before
