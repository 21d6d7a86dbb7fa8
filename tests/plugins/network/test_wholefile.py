"""Small files that are read whole, or set aside."""

from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import PermanentError
from edgeagent_network.wholefile import Kept, read_whole, write_whole


class Content(msgspec.Struct):
    """What such a file holds."""

    number: int = 0


def refuse_negative(content: Content) -> None:
    """Those cannot have been written."""
    if content.number < 0:
        raise PermanentError("negative")


def read(path: Path) -> Kept[Content]:
    """It, of 20 bytes at most."""
    return read_whole(path, Content, max_bytes=20, check=refuse_negative)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert read(path) == Kept()
    write_whole(path, msgspec.json.encode(Content(7)), "it cannot be kept")
    assert read(path) == Kept(Content(7))
    assert [one.name for one in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"number": "x"}', b'{"number": -1}', b'{"number": 1}        ', b"\xff", b"[" * 20],
)
def test_a_damaged_one_is_set_aside_whole(tmp_path: Path, data: bytes) -> None:
    path, aside = tmp_path / "kept.json", tmp_path / "kept.json.corrupt"
    aside.write_bytes(b"of before")
    path.write_bytes(data)
    assert read(path) == Kept(set_aside=aside)
    assert aside.read_bytes() == data
    assert not path.exists()


def test_what_is_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(b"[" * 100_000)
    assert read_whole(path, object, max_bytes=1_000_000, check=lambda _: None).set_aside is not None
