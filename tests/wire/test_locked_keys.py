"""A key with a password, where nobody is there to type it: that is said, and nobody is asked."""

import sys
from pathlib import Path

import pexpect
import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.broker import tls_material

LOADS = {
    "sender": """
from edgeagent.wire.remotewriteclient import RemoteWriteClient, RemoteWriteTarget
from edgeagent.wire.remotewrite import TimeSeries
target = RemoteWriteTarget(url="https://localhost:1/", ca_file=CERT, certificate_file=CERT, key_file=KEY)
RemoteWriteClient(target, agent="t").send([TimeSeries({"__name__": "m"}, [1], [1.0])])
""",
    "hub": """
from edgeagent.cluster.metricsconfig import ListenSection
from edgeagent.cluster.metricsserver import MetricsServer
config = ListenSection(port=1, certificate_file=CERT, key_file=KEY, client_ca_file=CERT)
MetricsServer(config, lambda node: b"")
""",
}


@pytest.mark.parametrize("who", LOADS)
def test_nobody_is_asked_on_the_terminal_for_the_password_of_a_key(tmp_path: Path, who: str) -> None:
    pair = tls_material(tmp_path / "tls").server
    key = serialization.load_pem_private_key(Path(pair.key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    program = f"CERT, KEY = {str(pair.cert)!r}, {str(locked)!r}\n{LOADS[who]}"
    child = pexpect.spawn(sys.executable, ["-c", program], timeout=60, encoding="utf-8")
    found = child.expect(["PermanentError", "(?i)pass ?phrase", pexpect.EOF])
    child.close(force=True)
    assert found == 0, child.before
