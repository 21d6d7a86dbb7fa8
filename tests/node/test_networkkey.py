"""The node's proof of its WireGuard key: made once, kept, and made anew for another key or certificate."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.api.network import NetworkReport
from edgeagent.node.identity import IdentityDir
from edgeagent.node.networkkey import PublicKey, proven
from edgeagent.node.networkwiring import tell_network
from edgeagent.node.renewedfiles import RenewedFiles
from edgeagent.node.status import Conditions
from edgeagent.node.store.database import Database
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.networkkey import NetworkKey, check_network_key
from tests.node.network.test_keeper import World
from tests.node.renewalkit import CLUSTER, NODE, HubSide, NodeSide, in_loop

KEY = "a" * 42 + "Y="
IN_A_NEW_PROCESS = """
import pathlib, sys
from edgeagent.node.identity import IdentityDir
from edgeagent.node.networkkey import proven
from edgeagent.node.store.database import Database

files, database, key = sys.argv[1:]
found = proven(key, Database(pathlib.Path(database), now=0), IdentityDir(pathlib.Path(files)))
print(found.proof.hex(), "cryptography" in sys.modules)
"""


@pytest.fixture
def node(tmp_path: Path) -> NodeSide:
    (tmp_path / "node").mkdir()
    return NodeSide(HubSide(tmp_path / "hub", ManualClock(1_800_000_000.0)), tmp_path / "node")


def check(found: PublicKey, tls: Path) -> None:
    """The proof is of this key, by this TLS key."""
    expected = NetworkKey(cluster=CLUSTER, node=NODE, public_key=found.key)
    check_network_key(found.proof, expected, [PrivateKey(tls.read_bytes()).public])


def test_it_is_made_once_for_a_key(node: NodeSide) -> None:
    first = proven(KEY, node.database, node.files)
    check(first, node.files.private_key)
    assert proven(KEY, node.database, node.files) == first  # ECDSA never gives the same signature twice
    other = proven("b" * 42 + "Y=", node.database, node.files)
    assert other.proof != first.proof
    check(other, node.files.private_key)


def test_an_agent_that_starts_again_reads_it_without_cryptography(node: NodeSide, tmp_path: Path) -> None:
    first = proven(KEY, node.database, node.files)
    node.database.close()
    arguments = [str(node.files.path), str(tmp_path / "node" / "agent.db"), KEY]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [first.proof.hex(), "False"], done.stderr


def test_a_new_certificate_makes_it_anew(node: NodeSide) -> None:
    first = proven(KEY, node.database, node.files)
    tls, files = PrivateKey.generate(), RenewedFiles(node.files)
    files.stage(ca=node.files.ca.read_text(), certificate="the new one", key=tls.pem)
    assert proven(KEY, node.database, node.files) == first
    files.adopt()
    second = proven(KEY, node.database, node.files)
    check(second, files.in_force.key)
    files.settle()
    assert proven(KEY, node.database, node.files) == second
    check(second, node.files.private_key)


def test_nothing_is_signed_without_a_key_or_a_cluster(node: NodeSide, tmp_path: Path) -> None:
    assert proven("", node.database, node.files) == PublicKey()
    assert proven(KEY, node.database, IdentityDir(tmp_path / "lone")) == PublicKey(KEY)


def test_a_key_that_cannot_be_read_is_told(node: NodeSide, tmp_path: Path) -> None:
    node.files.private_key.unlink()
    with pytest.raises(TemporaryError, match="the TLS key cannot be read: No such file"):
        proven(KEY, Database(tmp_path / "other.db", now=0), node.files)


@in_loop
async def test_the_status_has_the_proof_or_says_what_is_wrong(node: NodeSide, tmp_path: Path) -> None:
    world, conditions = World(tmp_path), Conditions()
    world.plugin.report = NetworkReport(public_key=KEY)
    async with world.running():
        found = tell_network(conditions, world.keeper, 0, node.database, node.files)
        assert found.key == KEY
        check(found, node.files.private_key)
        assert [(one.status, one.reason) for one in conditions.all()] == [("False", "NetworkReady")]
        node.files.private_key.write_text("junk")
        assert tell_network(conditions, world.keeper, 0, node.database, node.files) == found  # it was kept
        node.files.certificate.write_text("another")
        found = tell_network(conditions, world.keeper, 0, node.database, node.files)
        assert found == PublicKey(KEY)
        [condition] = conditions.all()
        assert (condition.type, condition.status, condition.reason) == (
            "NetworkUnavailable", "True", "KeyNotProven"
        )  # fmt: skip
        assert "the key cannot be read" in condition.message
