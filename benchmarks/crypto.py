"""What signatures and sealing cost: at the node for each object, at the hub for each device that enrols.

The baselines are the same primitives called bare, in the same run.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256

from benchmarks.measure import median, probe
from benchmarks.report import Report
from benchmarks.scene import progress
from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.enrolment import Enrolments
from edgeagent.cluster.init import init
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store
from edgeagent.cluster.tokens import TokenRules, Tokens
from edgeagent.wire.anchor import TrustAnchor
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.clientid import client_id
from edgeagent.wire.enrolment import (
    EnrolmentRequest,
    decode_request,
    encode_answer,
    encode_request,
    new_channel,
    parse_token,
)
from edgeagent.wire.envelope import INDEX_TYPE, decode_envelope, encode_envelope, sign_envelope
from edgeagent.wire.index import Index, IndexEntry, check_object, decode_index, encode_index
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.keys import SealingKey, SigningKey
from edgeagent.wire.sealing import seal_secret, unseal_secret
from edgeagent.wire.trust import verify

OBJECTS = 1_000
DEVICES = 200
ROUNDS = 5
CLUSTER, NODE = "bench", "gw-1"


def run() -> Report:
    """Measure ROUNDS rounds; medians count."""
    report = Report("crypto")
    _verification(report)
    _sealing(report)
    _enrolment(report)
    _memory(report)
    report.notes.append(
        f"verification: an index of {OBJECTS} ConfigMaps, to the last of its objects, under one signature."
        f" Enrolments: {DEVICES} requests, each committed to disk before its answer"
    )
    return report


def _verification(report: Report) -> None:
    progress("verification")
    key = SigningKey.generate()
    anchor = TrustAnchor(cluster=CLUSTER, serial=1, key=key.public.raw)
    bodies = [
        canonical_json(
            ConfigMap(
                api_version="v1",
                metadata=ObjectMeta(name=f"web-{number}", namespace="default", uid=f"uid-{number}"),
                data={"key": "x" * 1_000},
            )
        )
        for number in range(OBJECTS)
    ]
    entries = [
        IndexEntry(
            kind="ConfigMap", namespace="default", name=f"web-{number}", uid=f"uid-{number}",
            digest=digest(body), size=len(body),
        )
        for number, body in enumerate(bodies)
    ]  # fmt: skip
    index = Index(cluster=CLUSTER, node=NODE, generation=1, issued_at="2026-01-01T00:00:00Z", objects=entries)
    signed = encode_envelope(sign_envelope(INDEX_TYPE, encode_index(index), key.public.id, key))

    def opened() -> None:
        envelope = decode_envelope(signed, INDEX_TYPE)
        verify(envelope, anchor)
        found = decode_index(envelope.payload, cluster=CLUSTER, node=NODE)
        for entry, body in zip(found.objects, bodies, strict=True):
            check_object(entry, body)

    private = Ed25519PrivateKey.generate()
    public, data = private.public_key(), b"x" * 200
    signature = private.sign(data)
    report.figures["verify_us_an_object"] = _microseconds(opened, OBJECTS)
    report.figures["verify_index_ms"] = _microseconds(lambda: _opened_index(signed, anchor), 1) / 1_000
    report.baseline["ed25519_verify_us"] = _microseconds(
        lambda: [public.verify(signature, data) for _ in range(100)], 100
    )
    report.baseline["sha256_us_an_object"] = _microseconds(lambda: [digest(body) for body in bodies], OBJECTS)


def _opened_index(signed: bytes, anchor: TrustAnchor) -> None:
    envelope = decode_envelope(signed, INDEX_TYPE)
    verify(envelope, anchor)
    decode_index(envelope.payload, cluster=CLUSTER, node=NODE)


def _sealing(report: Report) -> None:
    progress("sealing")
    key = SealingKey.generate()
    secret = Secret(
        api_version="v1",
        metadata=ObjectMeta(name="db", namespace="default", uid="uid", resource_version="1"),
        data={"password": b"x" * 1_000},
    )
    sealed = seal_secret(secret, key.public, cluster=CLUSTER, node=NODE)
    report.figures["seal_us"] = _microseconds(
        lambda: [seal_secret(secret, key.public, cluster=CLUSTER, node=NODE) for _ in range(100)], 100
    )
    report.figures["unseal_us"] = _microseconds(
        lambda: [unseal_secret(sealed, key, cluster=CLUSTER, node=NODE) for _ in range(100)], 100
    )
    mine, theirs = X25519PrivateKey.generate(), X25519PrivateKey.generate().public_key().public_bytes_raw()
    cipher = ChaCha20Poly1305(ChaCha20Poly1305.generate_key())
    closed = cipher.encrypt(bytes(12), bytes(1_400), b"")

    def bare() -> None:
        for _ in range(100):
            mine.exchange(X25519PublicKey.from_public_bytes(theirs))
            cipher.decrypt(bytes(12), closed, b"")

    report.baseline["x25519_and_chacha20poly1305_us"] = _microseconds(bare, 100)
    report.ratio("unseal_to_bare", "unseal_us", "x25519_and_chacha20poly1305_us")


def _enrolment(report: Report) -> None:
    progress("enrolment")
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        address = BrokerAddress(host="127.0.0.1", port=8883)
        files = init(Path(folder) / "hub", CLUSTER, [address], listen=address, clock=clock)
        store = Store(files.database)
        authorities, signing = load_authorities(files, clock), Signing.load(files.signing)
        settings = load_settings(files.settings)
        enrolments = Enrolments(settings, store, lambda: authorities, lambda: signing, clock)
        _, text = Tokens(store, clock).create(TokenRules(uses=DEVICES * 2))
        token, rng = parse_token(text), random.Random(1)
        asked = []
        for number in range(DEVICES):
            key, channel = PrivateKey.generate(), new_channel()
            request = EnrolmentRequest(
                cluster=CLUSTER, node=f"gw-{number}", token=token.id, channel=channel,
                csr=key.request(f"gw-{number}"), sealing_key=SealingKey.generate().public,
                client_id=client_id(CLUSTER, f"gw-{number}", rng.randbytes(32)), nonce=rng.randbytes(16),
            )  # fmt: skip
            asked.append((channel, encode_request(request, token.request_key, key)))
        began = time.perf_counter()
        for channel, data in asked:
            verdict = enrolments.judge(decode_request(data, cluster=CLUSTER, channel=channel))
            assert verdict.answer.state == "approved", verdict.answer
            encode_answer(verdict.answer, verdict.key)
        report.figures["enrolments_a_second"] = DEVICES / (time.perf_counter() - began)
        store.close()
    private = ec.generate_private_key(ec.SECP256R1())
    public, data = private.public_key(), b"x" * 500
    signature = private.sign(data, ec.ECDSA(SHA256()))

    def bare() -> None:
        for _ in range(100):
            for _ in range(2):
                public.verify(signature, data, ec.ECDSA(SHA256()))
            private.sign(data, ec.ECDSA(SHA256()))

    # What cannot be left out: the request's two signatures are checked, and a certificate is signed.
    report.baseline["p256_twice_verified_once_signed_a_second"] = 1e6 / _microseconds(bare, 100)
    report.ratio("enrolments_to_bare", "enrolments_a_second", "p256_twice_verified_once_signed_a_second")


def _memory(report: Report) -> None:
    progress("memory")
    bare = probe("import edgeagent.cli.runner", sys.executable)
    signatures = probe("import edgeagent.cli.runner, edgeagent.wire.trust", sys.executable)
    report.figures["signatures_added_pss_mb"] = signatures["pss"] - bare["pss"]
    worker = "import edgeagent.node.plugins.lane_worker"
    lane = probe(worker, sys.executable)
    judging = probe(f"{worker}, edgeagent_security.plugin, edgeagent_security.admission", sys.executable)
    opening = probe(
        f"{worker}, edgeagent_security.plugin, edgeagent_security.admission, edgeagent_security.unseal",
        sys.executable,
    )
    report.baseline["empty_child_pss_mb"] = lane["pss"]
    report.figures["security_plugin_judging_added_pss_mb"] = judging["pss"] - lane["pss"]
    report.figures["security_plugin_unsealing_added_pss_mb"] = opening["pss"] - lane["pss"]


def _microseconds(call: Callable[[], object], times: int) -> float:
    """Microseconds for one of the ``times`` that a call does something."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        rounds.append((time.perf_counter() - began) / times * 1e6)
    return median(rounds)
