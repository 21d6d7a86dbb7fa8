"""Secrets and tokens in the hub's database: no file holds them in clear, and nothing else reads them."""

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.atrest import SCHEMA
from edgeagent.cluster.layout import HubFiles, storage_key_file
from edgeagent.cluster.store import MIGRATIONS, Store, StoredObject
from edgeagent.cluster.tokens import TokenRules, Tokens

VALUE = b"a-value-that-nobody-else-has"
BEFORE = MIGRATIONS[: MIGRATIONS.index(SCHEMA)]


def secret(name: str = "login", uid: str = "u1", version: int = 1, body: bytes = VALUE) -> StoredObject:
    return StoredObject("Secret", "default", name, uid, version, "", "", b'{"data":"' + body + b'"}')


def put(store: Store, *objects: StoredObject) -> None:
    with store.transaction():
        for one in objects:
            store.put(one)


def files_with(folder: Path, *needles: bytes) -> list[str]:
    """The names of all files that hold one of ``needles``."""
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def test_no_file_holds_a_secret_while_it_is_open_or_later(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    put(store, secret(), StoredObject("Pod", "default", "p", "u2", 2, "gw-1", "", b'{"shown":"as it is"}'))
    assert (tmp_path / "hub.db-wal").stat().st_size > 0
    assert files_with(tmp_path, b"as it is") == ["hub.db-wal"]
    assert files_with(tmp_path, VALUE) == []
    assert store.find("Secret", "default", "login") == secret()
    assert store.select("Secret") == [secret()]
    store.close()
    assert files_with(tmp_path, VALUE) == []
    again = Store(tmp_path / "hub.db")
    assert again.select("Secret", "default", "login") == [secret()]
    again.close()
    assert storage_key_file(tmp_path / "hub.db").stat().st_mode & 0o777 == 0o600
    assert HubFiles(tmp_path).database_key == storage_key_file(tmp_path / "hub.db")


def test_the_keys_of_tokens_are_encrypted(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    tokens = Tokens(store, SystemClock())
    token, text = tokens.create(TokenRules())
    found = tokens.find(token.id)
    assert found is not None
    assert found.request_key.raw == token.request_key.raw
    assert [one.answer_key.raw for one in tokens.all()] == [token.answer_key.raw]
    needles = (token.request_key.raw, token.answer_key.raw, text.partition(".")[2].encode())
    assert files_with(tmp_path, *needles) == []
    store.execute("UPDATE tokens SET request_key = answer_key")
    with pytest.raises(PermanentError, match=rf"{token.id}/request_key cannot be read"):
        tokens.find(token.id)
    store.close()


@pytest.mark.parametrize("changed", ["uid = 'u9'", "version = 9", "name = 'other'", "namespace = 'other'"])
def test_what_is_encrypted_for_one_row_is_not_read_in_another(tmp_path: Path, changed: str) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    put(store, secret())
    store.execute(f"UPDATE objects SET {changed}")  # noqa: S608 - one of four constants
    with pytest.raises(PermanentError, match="encrypted for another place") as refused:
        store.select("Secret")
    assert VALUE.decode() not in str(refused.value)
    store.close()


def test_what_is_put_in_from_outside_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    put(store, secret(), secret("other", "u2", 2, b"of-the-other"))
    [(first,), (second,)] = store.execute("SELECT body FROM objects ORDER BY uid")
    change = "UPDATE objects SET body = ? WHERE uid = ?"
    store.execute(change, (second, "u1"))
    store.execute(change, (first, "u2"))
    for name in ("login", "other"):
        with pytest.raises(PermanentError, match=f"Secret/default/{name} cannot be read") as refused:
            store.find("Secret", "default", name)
        assert VALUE.decode() not in str(refused.value)
    store.execute(change, (secret().body, "u1"))
    with pytest.raises(PermanentError, match="Secret/default/login cannot be read: it is not encrypted"):
        store.find("Secret", "default", "login")
    store.execute(change, (first, "u1"))
    store.execute(change, (second, "u2"))
    assert store.select("Secret") == [secret(), secret("other", "u2", 2, b"of-the-other")]
    store.close()


def test_what_was_changed_or_deleted_leaves_nothing_not_even_encrypted(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub.db", create=True)

    def encrypted(uid: str) -> bytes:
        [(body,)] = store.execute("SELECT body FROM objects WHERE uid = ?", (uid,))
        return bytes(body)

    assert store.execute("PRAGMA secure_delete") == [(1,)]
    long = VALUE * 300  # more than a page
    put(store, secret(body=long), secret("gone", "u2", 2, long))
    store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    needles = [encrypted("u1")[-1000:], encrypted("u2")[-1000:], encrypted("u1")[100:130]]
    assert files_with(tmp_path, needles[0]) == ["hub.db"]
    put(store, secret(version=3, body=b"new"))
    with store.transaction():
        store.remove("u2")
    assert files_with(tmp_path, VALUE) == []
    store.close()
    assert files_with(tmp_path, VALUE, *needles) == []


def test_what_root_writes_stays_readable_for_whose_database_it_is(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    old_database(path)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    store = Store(path)
    store.at_rest.rotate()
    store.close()
    copies = sorted(tmp_path.glob("hub.db.schema*"))
    assert len(copies) == 2
    # The first copy is of before the owner changed.
    for made in (storage_key_file(path), copies[-1]):
        assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (owner, 0o600)


def old_database(path: Path) -> None:
    """What an edgehub left that encrypted nothing: with free pages, a copy of an upgrade, and a token."""
    first = Store(path, migrations=BEFORE[:-1], create=True)
    put(first, secret(), secret("gone", "u2", 2, b"deleted-" + VALUE * 200))
    first.close()
    store = Store(path, migrations=BEFORE)  # keeps a copy
    with store.transaction():
        store.remove("u2")
        store.execute(
            "INSERT INTO tokens VALUES ('abc234', ?, ?, 1.0, 4e9, 1, 0, '*', 'automatic', 0, 0, '')",
            (b"\x01" + b"r" * 31, b"a" * 32),
        )
    put(store, secret(version=3))
    store.close()


def test_a_database_from_before_is_encrypted_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    old_database(path)
    assert {"hub.db", f"hub.db.schema{len(BEFORE) - 1}"} <= set(files_with(tmp_path, VALUE))
    store = Store(path)
    assert store.select("Secret") == [secret(version=3)]
    token = Tokens(store, SystemClock()).find("abc234")
    assert token is not None
    assert token.request_key.raw == b"\x01" + b"r" * 31
    assert token.answer_key.raw == b"a" * 32
    assert files_with(tmp_path, VALUE, b"r" * 31, b"a" * 32) == []
    assert store.execute("SELECT clean FROM at_rest") == [(1,)]
    store.close()
    assert files_with(tmp_path, VALUE, b"r" * 31, b"a" * 32) == []
    # The copies of upgrades are still good for an upgrade.
    copy = tmp_path / f"hub.db.schema{len(BEFORE)}"
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    copy.replace(path)
    store = Store(path)
    assert store.select("Secret") == [secret(version=3)]
    store.close()


def test_what_could_not_be_taken_out_is_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hub.db"
    old_database(path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM objects").fetchall()
    store = Store(path)
    assert store.select("Secret") == [secret(version=3)]
    assert store.execute("SELECT clean FROM at_rest") == [(0,)]
    assert "the next start tries again" in caplog.text
    assert "hub.db" in files_with(tmp_path, VALUE)
    store.close()
    reader.close()
    Store(path).close()
    assert files_with(tmp_path, VALUE) == []


def test_the_key_is_changed_while_another_process_has_the_database(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    running = Store(path, create=True)
    put(running, secret())
    token, _ = Tokens(running, SystemClock()).create(TokenRules())
    old = storage_key_file(path).read_bytes()
    other = Store(path)
    other.at_rest.rotate()
    other.close()
    new = storage_key_file(path).read_bytes()
    assert len(new) == 32
    assert new != old
    assert running.select("Secret") == [secret()]
    put(running, secret("second", "u2", 2))
    found = Tokens(running, SystemClock()).find(token.id)
    assert found is not None
    assert found.request_key.raw == token.request_key.raw
    running.close()
    again = Store(path)
    assert again.select("Secret") == [secret(), secret("second", "u2", 2)]
    again.close()
    # The key of before opens nothing of what is there now.
    storage_key_file(path).write_bytes(old)
    with pytest.raises(PermanentError, match="does not hold the key that"):
        Store(path)


def test_a_change_of_the_key_that_was_cut_short_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hub.db"
    store = Store(path, create=True)
    put(store, secret())
    with monkeypatch.context() as patch:
        patch.setattr(
            "edgeagent.cluster.atrest._encrypt_all", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            store.at_rest.rotate()
    assert len(storage_key_file(path).read_bytes()) == 64
    store.close()
    store = Store(path)
    assert store.select("Secret") == [secret()]
    put(store, replace(secret("second", "u2", 2)))
    store.at_rest.rotate()
    assert len(storage_key_file(path).read_bytes()) == 32
    assert [one.name for one in store.select("Secret")] == ["login", "second"]
    store.close()


@pytest.mark.parametrize("content", [None, b"", b"too short", bytes(32)])
def test_without_its_key_a_database_is_not_opened(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "hub.db"
    Store(path, create=True).close()
    key = storage_key_file(path)
    key.unlink()
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(PermanentError, match="from the same backup"):
        Store(path)
    assert key.exists() == (content is not None)


def test_a_key_file_that_others_can_read_is_closed_to_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hub.db"
    Store(path, create=True).close()
    storage_key_file(path).chmod(0o644)
    Store(path).close()
    assert storage_key_file(path).stat().st_mode & 0o777 == 0o600
    assert "could be read by others" in caplog.text
