"""The parts that can be shown without a broker: store, certificates, desired state, the shelf."""

import datetime
import sqlite3
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap, SealedSecret, Secret
from edgeagent.api.objects.container import Container, EnvFromSource, SourceReference
from edgeagent.api.objects.pod import Pod, PodSpec, PodStatus
from edgeagent.api.objects.references import Reference
from edgeagent.cluster.ca import Authority
from edgeagent.cluster.desired import Wanted, wanted
from edgeagent.cluster.shelf import Shelf
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import (
    MIGRATIONS,
    Store,
    StoredNode,
    StoredObject,
)
from edgeagent.wire.blob import encode_blob
from edgeagent.wire.canonical import digest
from edgeagent.wire.index import MAX_OBJECTS, Index, IndexEntry, check_object, decode_index, encode_index

# Certificates


def test_certificates_pass_strict_verification(tmp_path: Path) -> None:
    authority, ca = Authority.create("plant", SystemClock())
    (tmp_path / "ca.crt").write_text(ca.certificate)
    for name, issued, purpose in (
        ("server", authority.server(["127.0.0.1", "broker.example"]), "sslserver"),
        ("node", authority.node("gw-1"), "sslclient"),
        ("operator", authority.operator("ann"), "sslclient"),
        ("hub", authority.hub(), "sslclient"),
    ):
        path = tmp_path / f"{name}.crt"
        path.write_text(issued.certificate)
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", tmp_path / "ca.crt", path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        certificate = x509.load_pem_x509_certificate(issued.certificate.encode())
        assert certificate.not_valid_before_utc < datetime.datetime.now(datetime.UTC)
        assert f"{certificate.serial_number:x}" == issued.serial
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        expected = ExtendedKeyUsageOID.SERVER_AUTH if name == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        assert list(usage) == [expected]


def test_a_tls_handshake_with_strict_flags_on_both_sides(tmp_path: Path) -> None:
    authority, ca = Authority.create("plant", SystemClock())
    pairs = {"server": authority.server(["127.0.0.1"]), "client": authority.operator("ann")}
    for name, issued in pairs.items():
        (tmp_path / f"{name}.pem").write_text(issued.certificate + issued.key)
    contexts = []
    for kind, name in ((ssl.PROTOCOL_TLS_SERVER, "server"), (ssl.PROTOCOL_TLS_CLIENT, "client")):
        context = ssl.SSLContext(kind)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca.certificate)
        context.load_cert_chain(tmp_path / f"{name}.pem")
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = contexts[0].wrap_bio(to_server, to_client, server_side=True)
    client = contexts[1].wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    peer = server.getpeercert()
    assert peer is not None
    assert peer["subject"] == ((("commonName", "user:ann"),),)


@pytest.mark.parametrize("name", ["hub", "user:ann", ""])
def test_no_node_takes_a_reserved_name(name: str) -> None:
    with pytest.raises(PermanentError):
        Authority.create("plant", SystemClock())[0].node(name)


# Signing


def test_a_signing_file_survives_rotations_and_refuses_damage(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    signing = Signing.create("plant")
    for _ in range(3):
        signing = signing.rotated()
    signing.save(path)
    loaded = Signing.load(path)
    assert loaded.anchor == signing.anchor
    assert loaded.serial == 4
    with pytest.raises(FileExistsError):
        signing.save(path)
    other = Signing.create("plant")
    mixed = Signing("plant", 4, other.key, signing.first, signing.chain)
    mixed.save(path, replace=True)
    with pytest.raises(PermanentError, match="chain"):
        Signing.load(path)
    path.write_text("{}")
    with pytest.raises(PermanentError, match="no usable signing key"):
        Signing.load(path)


# The store


def _object(uid: str, name: str) -> StoredObject:
    return StoredObject("Pod", "default", name, uid, 1, "gw-1", "", b"{}")


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)

    def interrupted() -> None:
        with store.transaction():
            store.put(_object("u1", "a"))
            raise ZeroDivisionError

    def name_is_taken() -> None:
        with store.transaction():
            store.put(_object("u1", "a"))
            store.put(_object("u2", "a"))

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with pytest.raises(TemporaryError):
        name_is_taken()
    with store.transaction(dry_run=True):
        store.put(_object("u1", "a"))
    assert store.select("Pod") == []
    with store.transaction():
        store.put(_object("u1", "a"))
    assert store.pods_on("gw-1") == [_object("u1", "a")]
    store.close()


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    with store.transaction():
        store.put(_object("u1", "a"))
    store._db.execute("PRAGMA max_page_count = 1")
    big = StoredObject("Pod", "default", "b", "u2", 1, "gw-1", "", b"x" * 1_000_000)
    with pytest.raises(TemporaryError, match="full"), store.transaction():
        store.put(big)
    assert [one.name for one in store.select("Pod")] == ["a"]
    store.close()


def test_migrations_go_forward_keep_a_copy_and_refuse_a_newer_file(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    store = Store(path, create=True)
    with store.transaction():
        store.put(_object("u1", "a"))
    store.close()
    newer = [*MIGRATIONS, "CREATE TABLE more (x INTEGER)"]
    store = Store(path, migrations=newer)
    assert [one.uid for one in store.select("Pod")] == ["u1"]
    store.close()
    assert (tmp_path / f"hub.db.schema{len(MIGRATIONS)}").stat().st_mode & 0o777 == 0o600
    old = sqlite3.connect(tmp_path / f"hub.db.schema{len(MIGRATIONS)}")
    assert old.execute("SELECT uid FROM objects").fetchall() == [("u1",)]
    old.close()
    with pytest.raises(PermanentError, match="newer edgehub"):
        Store(path)
    broken = [*newer, "CREATE TABLE third (x); INSERT INTO nowhere VALUES (1)"]
    with pytest.raises(PermanentError):
        Store(path, migrations=broken)
    store = Store(path, migrations=newer)
    assert [one.uid for one in store.select("Pod")] == ["u1"]
    store.close()


def test_generations_rise_above_every_floor(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    with store.transaction():
        store.put_node(StoredNode("gw-1", "u", "", b"k", "1", 0))
    assert [store.next_generation("gw-1", floor) for floor in (0, 0, 7, 3)] == [1, 2, 8, 9]
    with pytest.raises(PermanentError):
        store.next_generation("gw-2", 0)
    store.close()


# Desired state

_NAMES = st.sampled_from(["a", "b", "c"])
_NODES = st.sampled_from(["n1", "n2"])
_SPACES = st.sampled_from(["x", "y"])


@st.composite
def _pods(draw: st.DrawFn) -> list[Pod]:
    keys = draw(st.sets(st.tuples(_SPACES, _NAMES), max_size=6))
    pods = []
    for space, name in sorted(keys):
        sources = [
            EnvFromSource(config_map_ref=SourceReference(name=ref)) if draw(st.booleans())
            else EnvFromSource(secret_ref=SourceReference(name=ref))
            for ref in draw(st.lists(_NAMES, max_size=3))
        ]  # fmt: skip
        pods.append(
            Pod(
                api_version="v1",
                metadata=ObjectMeta(
                    name=name,
                    namespace=space,
                    uid=f"pod-{space}-{name}",
                    deletion_timestamp=draw(st.sampled_from(["", "2030-01-01T00:00:00Z"])),
                ),
                spec=PodSpec(
                    node_name=draw(_NODES), containers=[Container(name="m", image="i", env_from=sources)]
                ),
                status=PodStatus(phase=draw(st.sampled_from(["", "Running"]))),
            )
        )
    return pods


def _told(kind: str, number: int) -> Wanted:
    """An object that a node is told of beside its own."""
    entry = IndexEntry(
        kind=kind, namespace="x", name=f"o{number}", uid=f"{kind}-{number}", digest="0" * 64, size=1
    )
    return Wanted(entry, b"{}")


def test_pods_of_other_nodes_do_not_crowd_out_what_a_node_runs(caplog: pytest.LogCaptureFixture) -> None:
    mine = Pod(
        api_version="v1",
        metadata=ObjectMeta(name="a", namespace="x", uid="pod-a"),
        spec=PodSpec(node_name="n1", containers=[Container(name="m", image="i")]),
    )

    def kinds(*shared: Wanted) -> set[str]:
        want = wanted("n1", [mine], lambda _: None, lambda secret: pytest.fail(str(secret)), shared)
        return {one.entry.kind for one in want}

    others = [_told("PodAddress", number) for number in range(MAX_OBJECTS - 2)]
    assert kinds(_told("Service", 1), *others) == {"Pod", "PodAddress", "Service"}
    assert not caplog.messages
    assert kinds(_told("Service", 1), _told("Service", 2), *others) == {"Pod", "Service"}
    assert "it is not told of pods of other nodes" in caplog.text
    with pytest.raises(InvalidObjectError, match="more than 20000"):
        kinds(*(_told("Service", number) for number in range(MAX_OBJECTS)))


@given(_pods(), st.sets(st.tuples(st.sampled_from(["ConfigMap", "Secret"]), _SPACES, _NAMES)), _NODES)
def test_desired_state_is_what_the_nodes_live_pods_need_and_nothing_else(
    pods: list[Pod], present: set[Reference], node: str
) -> None:
    def find(reference: Reference) -> ConfigMap | Secret | None:
        if reference not in present:
            return None
        kind, space, name = reference
        meta = ObjectMeta(name=name, namespace=space, uid=f"{kind}-{space}-{name}")
        if kind == "ConfigMap":
            return ConfigMap(api_version="v1", metadata=meta)
        return Secret(api_version="v1", metadata=meta, data={"k": b"plain-value"})

    def seal(secret: Secret) -> SealedSecret:
        return SealedSecret(api_version="edgeagent/v1", metadata=secret.metadata, sealed=b"sealed")

    want = wanted(node, pods, find, seal)
    live = [pod for pod in pods if pod.spec.node_name == node and not pod.metadata.deletion_timestamp]
    expected = {("Pod", pod.metadata.namespace, pod.metadata.name) for pod in live}
    for pod in live:
        for source in pod.spec.containers[0].env_from:
            for kind, ref in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
                if ref is not None and (kind, pod.metadata.namespace, ref.name) in present:
                    expected.add(
                        ("SealedSecret" if kind == "Secret" else kind, pod.metadata.namespace, ref.name)
                    )
    assert {(one.entry.kind, one.entry.namespace, one.entry.name) for one in want} == expected
    # The order of what is given does not matter, and a node accepts every bit of it.
    assert wanted(node, list(reversed(pods)), find, seal) == want
    entries = [one.entry for one in want]
    index = Index(cluster="c", node=node, generation=1, issued_at="2026-01-01T00:00:00Z", objects=entries)
    assert decode_index(encode_index(index), cluster="c", node=node) == index
    for one in want:
        assert b"Running" not in one.body
        assert b"plain-value" not in one.body
        assert check_object(one.entry, one.body).metadata.uid == one.entry.uid


# The shelf


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 5), max_size=4)), max_size=30))
def test_nothing_in_use_is_ever_due_and_everything_else_is(steps: list[tuple[int, set[int]]]) -> None:
    shelf = Shelf()
    names = [digest(b"%d" % number) for number in range(6)]
    for number, name in enumerate(names):
        shelf.found(name, encode_blob(b"%d" % number, 1000).payload)
    shelf.sweep(0.0)
    uses: dict[int, frozenset[str]] = {}
    for now, (user, wanted_numbers) in enumerate(steps, 1):
        new = frozenset(names[number] for number in wanted_numbers)
        shelf.use(new)
        shelf.release(uses.get(user, frozenset()), float(now))
        uses[user] = new
        used = frozenset().union(*uses.values())
        assert set(shelf.due(float(now))) == set(names) - used
        assert all(shelf.is_unused(name) != (name in used) for name in names)


def test_bytes_that_are_not_what_their_name_says_are_not_there() -> None:
    shelf = Shelf()
    name = digest(b"body")
    for payload in (b"\x00other", b"", b"\x09", b"\x01broken", b"\x02{}"):
        shelf.found(name, payload)
        assert not shelf.has(name)
    blob = encode_blob(bytes(range(256)) * 20, 200)
    whole = digest(bytes(range(256)) * 20)
    shelf.found(whole, blob.payload)
    for chunk, data in blob.chunks.items():
        assert not shelf.has(whole)
        shelf.found(chunk, data)
    assert shelf.has(whole)
    assert shelf.expand([whole]) == {whole, *blob.chunks}
