"""The rules for ClusterTrust."""

import re

from edgeagent.api.objects.trust import CLUSTER_TRUST_NAME, ClusterTrust
from edgeagent.api.objects.validate import require

MAX_CAS = 16
MAX_CA_BYTES = 16_384
MAX_REVOKED = 10_000
MAX_ENROLMENT = 16
MAX_RENEWAL_SECONDS = 7 * 86_400

_SERIAL = re.compile(r"[0-9a-f]{1,40}", re.ASCII)


def validate_cluster_trust(trust: ClusterTrust) -> None:
    """InvalidObjectError at the first rule that ``trust`` breaks. Certificates are read by who uses them."""
    spec = trust.spec
    require(trust.metadata.name == CLUSTER_TRUST_NAME, "metadata.name", f"must be {CLUSTER_TRUST_NAME}")
    require(len(spec.ca_bundle) <= MAX_CAS, "spec.caBundle", f"more than {MAX_CAS} certificates")
    for index, text in enumerate(spec.ca_bundle):
        require(len(text) <= MAX_CA_BYTES, f"spec.caBundle[{index}]", f"more than {MAX_CA_BYTES} characters")
    require(len(spec.revoked_operators) <= MAX_REVOKED, "spec.revokedOperators", f"more than {MAX_REVOKED}")
    for index, serial in enumerate(spec.revoked_operators):
        require(
            _SERIAL.fullmatch(serial) is not None,
            f"spec.revokedOperators[{index}]",
            f"{serial[:60]!r} is no serial number in lower-case hex",
        )
    require(len(spec.enrolment) <= MAX_ENROLMENT, "spec.enrolment", f"more than {MAX_ENROLMENT} addresses")
    for index, text in enumerate(spec.enrolment):
        require(0 < len(text) <= 300, f"spec.enrolment[{index}]", "must be HOST:PORT")
    require(
        0 <= spec.renewal_seconds <= MAX_RENEWAL_SECONDS,
        "spec.renewalSeconds",
        f"must be between 0 and {MAX_RENEWAL_SECONDS}",
    )
