"""The index, what it names, and sealed secrets."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import ConfigMap, SealedSecret, Secret
from edgeagent.api.objects.decode import MAX_OBJECT_BYTES
from edgeagent.wire import index as index_module
from edgeagent.wire.canonical import canonical_json, digest
from edgeagent.wire.index import Index, IndexEntry, check_object, decode_index, encode_index
from edgeagent.wire.keys import SealingKey, seal
from edgeagent.wire.sealing import seal_secret, unseal_secret

CONFIG = ConfigMap(api_version="v1", metadata=ObjectMeta(name="a", namespace="x", uid="u1"), data={"k": "v"})
BODY = canonical_json(CONFIG)
ENTRY = IndexEntry(kind="ConfigMap", namespace="x", name="a", uid="u1", digest=digest(BODY), size=len(BODY))


def index(**changes: Any) -> Index:
    fields: dict[str, Any] = {
        "cluster": "c",
        "node": "n",
        "generation": 3,
        "issued_at": "2026-01-01T00:00:00Z",
        "objects": [ENTRY],
    }
    return Index(**(fields | changes))


def decode(found: Index) -> Index:
    return decode_index(encode_index(found), cluster="c", node="n")


def entry(**changes: Any) -> IndexEntry:
    return msgspec.structs.replace(ENTRY, **changes)


def test_round_trip() -> None:
    assert decode(index()) == index()
    assert decode(index(objects=[])).objects == []


@pytest.mark.parametrize("changes", [{"node": "m"}, {"cluster": "d"}, {"node": ""}, {"node": "N"}])
def test_an_index_for_another(changes: dict[str, Any]) -> None:
    with pytest.raises(PermanentError) as error:
        decode(index(**changes))
    assert error.value.reason == "WrongNode"


@pytest.mark.parametrize(
    ("found", "path"),
    [
        (index(generation=0), "generation"),
        (index(generation=-5), "generation"),
        (index(issued_at=""), "issuedAt"),
        (index(issued_at="yesterday"), "issuedAt"),
        (index(issued_at="9999-12-31T23:59:59Z"), "issuedAt"),
        (index(objects=[ENTRY, entry(uid="u2"), ENTRY]), "objects[2].uid"),
        (index(objects=[entry(uid="")]), "objects[0].uid"),
        (index(objects=[entry(size=0)]), "objects[0].size"),
        (index(objects=[entry(size=MAX_OBJECT_BYTES + 1)]), "objects[0].size"),
        (index(objects=[entry(digest="A" * 64)]), "objects[0].digest"),
        (index(objects=[entry(digest="a" * 63)]), "objects[0].digest"),
        (index(objects=[entry(digest="#")]), "objects[0].digest"),
    ],
)
def test_an_index_that_makes_no_sense(found: Index, path: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        decode(found)
    assert error.value.path == path


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "truncated"),
        (b"[]", "expected object"),
        (b'{"cluster":"c"}', "node: required field is missing"),
        (encode_index(index())[:-1] + b',"x":1}', "x: unknown field"),
        (encode_index(index()).replace(b'"size":', b'"size":"9",'), "malformed|objects"),
        (b"[" * 100_000, "."),
    ],
)
def test_bytes_that_are_no_index(payload: bytes, message: str) -> None:
    with pytest.raises(InvalidObjectError, match=message):
        decode_index(payload, cluster="c", node="n")


def test_an_index_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAX_OBJECTS", 2)
    with pytest.raises(InvalidObjectError, match="objects: more than 2"):
        decode(index(objects=[entry(uid=str(n)) for n in range(3)]))
    monkeypatch.setattr(index_module, "MAX_INDEX_BYTES", 100)
    with pytest.raises(InvalidObjectError, match="more than the 100 allowed"):
        decode(index())


def test_the_object_that_the_entry_names() -> None:
    assert check_object(ENTRY, BODY) == CONFIG


@given(place=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
def test_no_other_bytes_are_the_object(place: int, flip: int) -> None:
    bad = bytearray(BODY)
    bad[place] ^= flip
    for body in (bytes(bad), BODY + b" ", BODY[:place]):
        with pytest.raises(InvalidObjectError, match="ConfigMap x/a does not have the digest"):
            check_object(ENTRY, body)


@pytest.mark.parametrize(
    "changes", [{"kind": "Pod"}, {"namespace": "y"}, {"name": "b"}, {"uid": "u2"}, {"kind": "Nonsense"}]
)
def test_an_object_other_than_the_one_named(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidObjectError, match="is not that of"):
        check_object(entry(**changes), BODY)


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"kind":"Pod"}', b"[" * 1000, b"\xff", b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}'],
)
def test_a_named_object_that_is_none(body: bytes) -> None:
    with pytest.raises(InvalidObjectError, match=r"\(in ConfigMap x/a\)"):
        check_object(entry(digest=digest(body), size=len(body)), body)


NODE, OTHER = SealingKey(b"1" * 32), SealingKey(b"2" * 32)
SECRET = Secret(
    api_version="v1",
    metadata=ObjectMeta(name="a", namespace="x", uid="u1", resource_version="7"),
    data={"password": b"hunter2"},
)


def sealed() -> SealedSecret:
    return seal_secret(SECRET, NODE.public, cluster="c", node="n")


def not_unsealed(found: SealedSecret, key: SealingKey = NODE, cluster: str = "c", node: str = "n") -> None:
    with pytest.raises(PermanentError) as error:
        unseal_secret(found, key, cluster=cluster, node=node)
    assert error.value.reason == "UnsealFailed"


def test_a_secret_reaches_its_node() -> None:
    found = sealed()
    assert unseal_secret(found, NODE, cluster="c", node="n") == SECRET
    assert b"hunter2" not in canonical_json(found)
    assert sealed().sealed != found.sealed


def test_no_other_node_can_open_it() -> None:
    not_unsealed(sealed(), OTHER)
    not_unsealed(sealed(), node="m")
    not_unsealed(sealed(), cluster="d")


@pytest.mark.parametrize(
    "change", [{"name": "b"}, {"namespace": "y"}, {"uid": "u2"}, {"resource_version": "6"}], ids=str
)
def test_it_is_bound_to_its_object(change: dict[str, str]) -> None:
    found = sealed()
    not_unsealed(msgspec.structs.replace(found, metadata=msgspec.structs.replace(found.metadata, **change)))


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255), length=st.integers(0, 10_000))
def test_a_changed_or_missing_byte(place: int, flip: int, length: int) -> None:
    found = sealed()
    bad = bytearray(found.sealed)
    bad[place % len(bad)] ^= flip
    not_unsealed(msgspec.structs.replace(found, sealed=bytes(bad)))
    not_unsealed(msgspec.structs.replace(found, sealed=found.sealed[: length % len(bad)]))
    not_unsealed(msgspec.structs.replace(found, sealed=found.sealed + b"x"))


@given(data=st.binary(max_size=200), context=st.binary(max_size=20))
def test_sealing_round_trip(data: bytes, context: bytes) -> None:
    box = seal(NODE.public, data, context)
    assert len(box) == len(data) + 48
    assert NODE.unseal(box, context) == data


@pytest.mark.parametrize("make", [lambda: bytes(80), lambda: b"\x01" + bytes(79), lambda: b""])
def test_an_ephemeral_key_of_low_order(make: Callable[[], bytes]) -> None:
    with pytest.raises(PermanentError):
        NODE.unseal(make(), b"")
