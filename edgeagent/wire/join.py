"""The join file: everything a new node needs to be a member, in one file that must be kept secret."""

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.validate import validate_label
from edgeagent.wire.anchor import TrustAnchor


class BrokerAddress(KubernetesStruct, frozen=True):
    """One broker to try. ``tls`` false is for tests on loopback."""

    host: str
    port: int = 8883
    tls: bool = True


class JoinFile(KubernetesStruct, frozen=True):
    """Written by ``edgehub node add``, read by ``edgeagent enroll``.

    PEM texts for the CA, the node's certificate and its key; the pinned signing key; the node's private
    X25519 key (raw).
    """

    cluster: str
    node: str
    brokers: list[BrokerAddress]
    ca: str
    certificate: str
    private_key: str
    trust: TrustAnchor
    sealing_key: bytes


class OperatorFile(KubernetesStruct, frozen=True):
    """What ``edgectl`` needs to reach the hub, as ``edgehub init`` writes it for its first operator."""

    cluster: str
    user: str
    brokers: list[BrokerAddress]
    ca: str
    certificate: str
    private_key: str


def parse_broker(text: str, *, tls: bool = True) -> BrokerAddress:
    """``host``, ``host:port`` or ``[v6]:port``; raises InvalidObjectError."""
    host, separator, port = text.rpartition(":")
    if not separator or "]" in port or (":" in host and not host.startswith("[")):
        host, port = text, "8883"
    host = host.strip("[]")
    if not host or any(c.isspace() or c == "/" for c in host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidObjectError("", f"{text!r} is no broker address (expected HOST or HOST:PORT)")
    return BrokerAddress(host=host, port=int(port), tls=tls)


def check_join(data: object) -> JoinFile:
    """A join file from plain data, with its names checked; raises InvalidObjectError."""
    join = convert(data, JoinFile)
    validate_label(join.cluster, "cluster")
    validate_label(join.node, "node")
    if not join.brokers:
        raise InvalidObjectError("brokers", "at least one is required")
    return join
