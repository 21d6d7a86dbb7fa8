"""Who this node is: the files that enrolment leaves behind, and reading them back."""

import os
import re
from pathlib import Path

import msgspec

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.validate import validate_label
from edgeagent.node.keyfiles import KeyFiles
from edgeagent.node.privatefiles import DIRECTORY, write_private
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import BrokerAddress, JoinFile, check_join

MAX_JOIN_BYTES = 1_000_000
NOT_ENROLLED = "NotEnrolled"
"""The reason of the error, and of the condition ``Connected``, of a node that is in no cluster."""
HOW_TO_ENROLL = (
    "On the hub, run `edgehub token create`, and here the `edgeagent enroll --token …` that it prints."
    " Without a network, run `edgehub node add NAME` there, copy the join file here, and run"
    " `edgeagent enroll --join-file FILE`"
)


def lone_name(configured: str, hostname: str) -> str:
    """The name of a node that is in no cluster: ``configured``, or else made of its host name.

    The kubelet takes the host name in lower case; here a node's name is one DNS label, so a domain is left
    out, and what may not be in a label becomes ``-``. PermanentError where nothing is left of it.
    """
    if configured:
        try:
            validate_label(configured, "agent.node_name")
        except InvalidObjectError as error:
            raise PermanentError(str(error)) from None
        return configured
    name = re.sub(r"[^a-z0-9-]", "-", hostname.lower().partition(".")[0], flags=re.ASCII)[:63].strip("-")
    if not name:
        raise PermanentError(
            f"the host name {hostname!r} cannot name a node: set node_name in [agent]", reason=NOT_ENROLLED
        )
    return name


class NodeIdentity(KubernetesStruct, frozen=True):
    """The part of the identity that is no secret. ``trust`` is the signing key pinned at enrolment.

    ``enrolment`` is where brokers let in who has no certificate that counts; a ClusterTrust may know better.
    """

    cluster: str
    node: str
    brokers: list[BrokerAddress]
    trust: TrustAnchor
    enrolment: list[BrokerAddress] = []


class IdentityDir:
    """The folder of keys and certificates; everything in it is readable by its owner alone."""

    def __init__(self, path: Path, keys: KeyFiles | None = None) -> None:
        """``keys``: how the private keys are kept; if None in clear, and sealed ones are not opened."""
        self.path = path
        self.keys = keys or KeyFiles(path)
        self.ca = path / "ca.crt"
        self.certificate = path / "node.crt"
        self.private_key = path / "node.key"
        self.sealing_key = path / "sealing.key"
        self._identity = path / "identity.json"

    def exists(self) -> bool:
        """Whether this node has been enrolled."""
        return self._identity.exists()

    def load_if_enrolled(self) -> NodeIdentity | None:
        """The identity, None where there is none; PermanentError where there is one that cannot be used."""
        try:
            return self.load()
        except PermanentError as error:
            if error.reason == NOT_ENROLLED:
                return None
            raise

    def load(self) -> NodeIdentity:
        """The identity; PermanentError says what to do where there is none."""
        try:
            return decode_json(self._identity.read_bytes(), NodeIdentity)
        except FileNotFoundError:
            raise PermanentError(
                f"this node is not enrolled ({self._identity} does not exist). {HOW_TO_ENROLL}",
                reason=NOT_ENROLLED,
            ) from None
        except OSError as error:
            raise PermanentError(f"{self._identity} cannot be read: {error.strerror}") from None
        except EdgeAgentError as error:
            raise PermanentError(f"{self._identity}: {error}") from None

    def write(self, join: JoinFile) -> NodeIdentity:
        """Store what a join file brings. The identity itself is written last: until then nothing counts."""
        self.path.mkdir(parents=True, exist_ok=True, mode=DIRECTORY)
        os.chmod(self.path, DIRECTORY)
        identity = NodeIdentity(
            cluster=join.cluster,
            node=join.node,
            brokers=join.brokers,
            trust=join.trust,
            enrolment=join.enrolment,
        )
        write_private(self.ca, join.ca.encode())
        write_private(self.certificate, join.certificate.encode())
        self.keys.write(self.private_key, join.private_key.encode())
        self.keys.write(self.sealing_key, join.sealing_key)
        write_private(self._identity, canonical_json(identity))
        return identity


def read_join_file(path: Path) -> JoinFile:
    """A join file from disk; PermanentError names file and field of what is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JOIN_BYTES + 1)
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_JOIN_BYTES:
        raise PermanentError(f"{path} is no join file: it has more than {MAX_JOIN_BYTES} bytes")
    try:
        return check_join(msgspec.json.decode(data))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise PermanentError(f"{path} is no join file: {error}") from None
    except EdgeAgentError as error:
        raise PermanentError(f"{path} is no join file: {error}") from None
