"""The folder behind configMap and secret volumes: the old set of files or the new one, and nothing else.

https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.node.pods.volumes.atomic import Projected, write_payload

Content = dict[str, bytes]
PATHS = ("a", "b", "deep/one", "deep/two", "deep/er/three", "x/y")
CONTENTS: st.SearchStrategy[Content] = st.dictionaries(st.sampled_from(PATHS), st.binary(max_size=3))

_before_each: Callable[[], None] | None = None


def _audited(event: str, _: tuple[object, ...]) -> None:
    """Called by the interpreter before it opens, makes, renames, links, changes or removes anything."""
    global _before_each
    if (call := _before_each) is not None and (event == "open" or event.startswith(("os.", "shutil."))):
        _before_each = None
        call()
        _before_each = call


sys.addaudithook(_audited)


@contextmanager
def before_each_step(call: Callable[[], None]) -> Iterator[None]:
    """Run ``call`` before every step on the file system."""
    global _before_each
    _before_each = call
    try:
        yield
    finally:
        _before_each = None


def write(folder: Path, content: Mapping[str, bytes], group: int | None = None, mode: int = 0o644) -> bool:
    """Write a set of files of one mode."""
    return write_payload(folder, {path: Projected(data, mode) for path, data in content.items()}, group)


def visible(folder: Path) -> Content:
    """What a container finds by walking over the names that it sees."""
    found: Content = {}
    for name in os.listdir(folder):
        top = folder / name
        if name.startswith("..") or not top.exists():
            continue
        paths = [top] if top.is_file() else [path for path in top.rglob("*") if path.is_file()]
        found |= {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return found


def assert_tidy(folder: Path) -> None:
    hidden = {name for name in os.listdir(folder) if name.startswith("..")}
    assert hidden == {"..data", os.readlink(folder / "..data")}
    assert all((folder / name).exists() for name in os.listdir(folder))


@settings(max_examples=60, deadline=None)
@given(st.lists(CONTENTS, min_size=1, max_size=5))
def test_each_set_in_turn_is_shown_whole_at_every_moment(contents: list[Content]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, old = Path(name), dict[str, bytes]()
        for index, new in enumerate(contents):
            seen: list[Content] = []
            with before_each_step(lambda seen=seen: seen.append(visible(folder))):  # type: ignore[misc]
                changed = write(folder, new)
            assert all(found in (old, new) for found in seen)
            assert visible(folder) == new
            assert changed == (index == 0 or new != old)
            assert_tidy(folder)
            old = new


@settings(max_examples=80, deadline=None)
@given(CONTENTS, CONTENTS, st.integers(0, 90))
def test_a_crash_at_any_step_leaves_the_old_or_the_new(old: Content, new: Content, steps: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, old)
        left = iter(range(steps))

        def crash() -> None:
            if next(left, None) is None:
                os._exit(9)

        if (child := os.fork()) == 0:
            with before_each_step(crash):
                write(folder, new)
            os._exit(0)
        os.waitpid(child, 0)
        assert visible(folder) in (old, new)
        write(folder, new)
        assert visible(folder) == new
        assert_tidy(folder)


def test_what_has_not_changed_is_not_written(tmp_path: Path) -> None:
    assert write(tmp_path, {"a": b"1", "b/c": b"2"})
    before = {path: path.lstat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    assert not write(tmp_path, {"b/c": b"2", "a": b"1"})
    assert {path: path.lstat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


def test_an_open_folder_of_an_old_set_stays_what_it_was_until_it_is_closed(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"old"})
    with open(tmp_path / "a", "rb") as opened:
        write(tmp_path, {"a": b"new"})
        assert opened.read() == b"old"


def test_a_changed_mode_is_a_change(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"1"}, mode=0o644)
    assert write(tmp_path, {"a": b"1"}, mode=0o400)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    before = os.umask(0o077)
    try:
        folder.mkdir()
        write(folder, {"deep/er/file": b""}, mode=0o644)
    finally:
        os.umask(before)
    for path in (folder, folder / "..data", folder / "deep", folder / "deep/er"):
        assert path.stat().st_mode & 0o777 == 0o755, path
    assert (folder / "deep/er/file").stat().st_mode & 0o777 == 0o644


def test_a_group_owns_what_it_shall_read(tmp_path: Path) -> None:
    write(tmp_path, {"deep/file": b""}, group=4321, mode=0o400)
    assert not write(tmp_path, {"deep/file": b""}, group=4321, mode=0o400)
    file, folder = (tmp_path / "deep/file").stat(), (tmp_path / "deep").stat()
    assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (0, 4321, 0o440)
    assert (folder.st_gid, stat.S_IMODE(folder.st_mode)) == (4321, 0o2755)


@pytest.mark.parametrize(
    "path",
    ["", "{}/up", "..", "../up", "a/../../up", "..data/x", "..name", "a\0b", "n" * 256, "d/" * 2100],
)
def test_a_path_that_leads_out_or_is_reserved_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    with pytest.raises(PermanentError, match="invalid path"):
        write(folder, {path.format(tmp_path): b"x"})
    assert list(tmp_path.rglob("*")) == [folder]


def test_a_path_is_a_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="'a/b': is both a file and a folder"):
        write(tmp_path, {"a/b": b"", "a/b/c": b""})


def test_nothing_is_left_of_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a": b"old"})

    def full(descriptor: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, {"a": b"new", "b": b"more"})
    assert visible(tmp_path) == {"a": b"old"}
    assert_tidy(tmp_path)
