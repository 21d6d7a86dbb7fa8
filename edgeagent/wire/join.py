"""The join file: everything a new node needs to be a member, in one file that must be kept secret."""

import re

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import convert
from edgeagent.api.objects.validate import validate_label
from edgeagent.wire.anchor import TrustAnchor

KEY_BYTES = 32
"""The length of every raw key: Ed25519 and X25519."""


class BrokerAddress(KubernetesStruct, frozen=True):
    """One broker to try. ``tls`` false is for tests on loopback."""

    host: str
    port: int = 8883
    tls: bool = True


class JoinFile(KubernetesStruct, frozen=True):
    """Written by ``edgehub node add``, read by ``edgeagent enroll``.

    PEM texts for the CA, the node's certificate and its key; the pinned signing key; the node's private
    X25519 key (raw). ``enrolment`` is where brokers let in who has no certificate that counts any more.
    """

    cluster: str
    node: str
    brokers: list[BrokerAddress]
    ca: str
    certificate: str
    private_key: str
    trust: TrustAnchor
    sealing_key: bytes
    enrolment: list[BrokerAddress] = []


class OperatorFile(KubernetesStruct, frozen=True):
    """What ``edgectl`` needs to reach the hub, as ``edgehub init`` writes it for its first operator.

    ``hub_key`` is the hub's public X25519 key, to which calls are sealed; without it they go in clear.
    """

    cluster: str
    user: str
    brokers: list[BrokerAddress]
    ca: str
    certificate: str
    private_key: str
    hub_key: bytes = b""


def parse_broker(text: str, *, tls: bool = True) -> BrokerAddress:
    """``host``, ``host:port`` or ``[v6]:port``; raises InvalidObjectError."""
    host, separator, port = text.rpartition(":")
    if not separator or "]" in port or (":" in host and not host.startswith("[")):
        host, port = text, "8883"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not re.fullmatch(r"[0-9]{1,5}", port) or _problem(host, int(port)):
        raise InvalidObjectError("", f"{text[:300]!r} is no broker address (expected HOST or HOST:PORT)")
    return BrokerAddress(host=host, port=int(port), tls=tls)


def _problem(host: str, port: int) -> tuple[str, str] | None:
    """Field and fault of an address that cannot be connected to."""
    if not host or len(host) > 253 or any(c.isspace() or c in "/[]" for c in host):
        return "host", "must be a host name or an IP address"
    return None if 0 < port < 65536 else ("port", "must be between 1 and 65535")


def check_join(data: object) -> JoinFile:
    """A join file from plain data, with names, addresses and keys checked; raises InvalidObjectError."""
    join = convert(data, JoinFile)
    validate_label(join.cluster, "cluster")
    validate_label(join.node, "node")
    if not join.brokers:
        raise InvalidObjectError("brokers", "at least one is required")
    for path, brokers in (("brokers", join.brokers), ("enrolment", join.enrolment)):
        for position, broker in enumerate(brokers):
            if (problem := _problem(broker.host, broker.port)) is not None:
                raise InvalidObjectError(f"{path}[{position}].{problem[0]}", problem[1])
    if join.trust.cluster != join.cluster:
        raise InvalidObjectError("trust.cluster", f"must be {join.cluster!r}, as cluster is")
    for path, key in (("trust.key", join.trust.key), ("sealingKey", join.sealing_key)):
        if len(key) != KEY_BYTES:
            raise InvalidObjectError(path, f"must have {KEY_BYTES} bytes, not {len(key)}")
    return join
