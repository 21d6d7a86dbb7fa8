"""A node's proof of its WireGuard key: for this cluster, node and key, by the node's own TLS key."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.envelope import decode_envelope, encode_envelope, sign_envelope
from edgeagent.wire.networkkey import (
    MAX_NETWORK_KEY_BYTES,
    NETWORK_KEY_TYPE,
    NetworkKey,
    check_network_key,
    encode_network_key,
)
from edgeagent.wire.renewal import RENEWAL_REQUEST_TYPE

OWN, OTHER = PrivateKey.generate(), PrivateKey.generate()
SAID = NetworkKey(cluster="plant", node="gw-1", public_key="a" * 42 + "Y=")
PROOF = encode_network_key(SAID, OWN)
labels = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True)
wireguard_keys = st.sampled_from([SAID.public_key, "b" * 42 + "Y=", "a" * 42 + "Z="])


@given(st.sampled_from(["plant"]) | labels, st.sampled_from(["gw-1"]) | labels, wireguard_keys, st.booleans())
def test_it_counts_for_what_was_signed_alone(cluster: str, node: str, key: str, own: bool) -> None:
    expected = NetworkKey(cluster=cluster, node=node, public_key=key)
    known = [OTHER.public, OWN.public] if own else [OTHER.public]
    if own and expected == SAID:
        check_network_key(PROOF, expected, known)
    else:
        with pytest.raises(PermanentError):
            check_network_key(PROOF, expected, known)


@given(st.binary(max_size=80), st.integers(0, len(PROOF) - 1), st.integers(1, 255))
def test_what_was_changed_is_refused(junk: bytes, at: int, by: int) -> None:
    changed = PROOF[:at] + bytes([PROOF[at] ^ by]) + PROOF[at + 1 :]
    key_id = decode_envelope(PROOF, NETWORK_KEY_TYPE).signatures[0].key_id.encode()
    for data in (junk, PROOF[:at], PROOF + junk[:1] if junk else b""):
        with pytest.raises(EdgeAgentError):
            check_network_key(data, SAID, [OWN.public])
    # The id of the key is a hint, and is not signed.
    if not PROOF.index(key_id) <= at < PROOF.index(key_id) + len(key_id):
        with pytest.raises(EdgeAgentError):
            check_network_key(changed, SAID, [OWN.public])


def test_what_was_signed_as_something_else_is_no_proof() -> None:
    payload = msgspec.json.encode(SAID)
    with pytest.raises(InvalidObjectError, match="payloadType: expected"):
        check_network_key(
            encode_envelope(sign_envelope(RENEWAL_REQUEST_TYPE, payload, "x", OWN)), SAID, [OWN.public]
        )
    with pytest.raises(InvalidObjectError, match="more than the 1024 allowed"):
        check_network_key(bytes(MAX_NETWORK_KEY_BYTES + 1), SAID, [OWN.public])
    envelope = decode_envelope(PROOF, NETWORK_KEY_TYPE)
    twice = msgspec.structs.replace(envelope, signatures=envelope.signatures * 2)
    with pytest.raises(InvalidObjectError, match="signatures: must be one"):
        check_network_key(encode_envelope(twice), SAID, [OWN.public])
    with pytest.raises(PermanentError, match="not signed with the TLS key"):
        check_network_key(PROOF, SAID, [b"", OTHER.public])
