"""The texts of the folder's files, and the documents in them: bounded, and off the loop."""

import asyncio
import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.wire.canonical import digest
from edgeagent.wire.jsonio import DocumentError, read_json

SUFFIXES = (".yaml", ".yml", ".json")
"""The files that are read, unless they are hidden."""
MAX_FILES = 500
MAX_FILE_BYTES = 2_000_000
MAX_FOLDER_BYTES = 16_000_000
MAX_ENTRIES = 10_000
"""How much of a folder is looked through for manifests."""
CHILD_SECONDS = 60.0
_LATEST = 253_402_300_799.0
"""The last second that RFC 3339 can write; some file systems can hold later ones."""
_ROOT = str(Path(__file__).resolve().parents[3])

Documents = list[tuple[int, object]]
"""The documents of a file that are not empty: each one's number, from 1, and its data."""


class Text(msgspec.Struct, frozen=True):
    """One file as it was read. ``changed``: its time stamp, in seconds since the epoch."""

    data: bytes
    digest: str
    changed: float


class Texts(msgspec.Struct, frozen=True):
    """All files of a folder by name, and the ``problems`` (by name) of those that could not be read."""

    files: Mapping[str, Text]
    problems: Mapping[str, str]


class _Converted(msgspec.Struct):
    documents: Documents = []
    error: str = ""


def is_manifest(name: str) -> bool:
    """Whether a file of this name is read: not hidden files, nor what editors leave beside them."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def read_folder(folder: Path) -> Texts:
    """Read all manifests. An absent folder is an empty one; TemporaryError where it cannot be read."""
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_ENTRIES:
                    raise TemporaryError(f"{folder} has more than {MAX_ENTRIES} entries")
                if is_manifest(entry.name) and not entry.is_dir():
                    names.append(entry.name)
    except FileNotFoundError:
        return Texts({}, {})
    except OSError as error:
        raise TemporaryError(f"{folder} cannot be read: {error.strerror}") from None
    files: dict[str, Text] = {}
    problems: dict[str, str] = {}
    room = MAX_FOLDER_BYTES
    for name in sorted(names):
        if (printable := _printable(name)) != name:
            problems[printable] = "the file's name is not UTF-8 text, rename it"
            continue
        if len(files) >= MAX_FILES:
            problems[name] = f"is one of more than {MAX_FILES} files"
            continue
        try:
            found = _read_file(folder / name, min(MAX_FILE_BYTES, room))
        except FileNotFoundError:
            continue  # removed since, or a symbolic link to nowhere
        except OSError as error:
            problems[name] = error.strerror or "cannot be read"
        except PermanentError as error:
            problems[name] = str(error)
        else:
            files[name] = found
            room -= len(found.data)
    return Texts(files, problems)


def _printable(name: str) -> str:
    """The name of a file, with the number of each byte that is no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _read_file(path: Path, limit: int) -> Text:
    # Without O_NONBLOCK a FIFO would hold up the thread for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PermanentError("is no regular file")
        data = file.read(limit + 1)
    if len(data) > MAX_FILE_BYTES:
        raise PermanentError(f"has more than {MAX_FILE_BYTES} bytes")
    if len(data) > limit:
        raise PermanentError(f"is beyond the {MAX_FOLDER_BYTES} bytes that all files may have together")
    return Text(data, digest(data), min(max(status.st_mtime, 0.0), _LATEST))


async def parse(files: Mapping[str, Text]) -> dict[str, Documents | str]:
    """The documents of each file, or in words what is wrong with it.

    JSON is read here. YAML is read by a child process: see ``edgeagent.node.static.child``. TemporaryError
    where there can be none now.
    """
    parsed: dict[str, Documents | str] = {}
    yaml: dict[str, str] = {}
    for name, file in files.items():
        try:
            text = file.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            parsed[name] = f"not UTF-8 text (byte {error.start})"
            continue
        if not text.lstrip().startswith("{"):
            yaml[name] = text
            continue
        try:
            parsed[name] = [(1, read_json(text))]
        except DocumentError as error:
            parsed[name] = str(error)
        except json.JSONDecodeError:
            yaml[name] = text  # YAML in flow style, perhaps; if not, its reader tells both problems
    if yaml:
        parsed.update(await _parse_yaml(yaml))
    return parsed


async def _parse_yaml(texts: Mapping[str, str]) -> dict[str, Documents | str]:
    try:
        answer = await _run_child(msgspec.json.encode(texts))
        found = msgspec.json.decode(answer, type=dict[str, _Converted])
    except TimeoutError:
        raise TemporaryError(f"YAML was not read within {CHILD_SECONDS:g} seconds") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise TemporaryError(f"YAML cannot be read now: {error}") from None
    if found.keys() != texts.keys():
        raise TemporaryError("YAML cannot be read now: the child process left files out")
    return {name: one.error or one.documents for name, one in found.items()}


async def _run_child(request: bytes) -> bytes:
    """What the child answers; it is ended with the caller. OSError where it fails."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "edgeagent.node.static.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([_ROOT, *filter(None, map(str, sys.path))])},
    )  # fmt: skip
    try:
        async with asyncio.timeout(CHILD_SECONDS):
            answer, _ = await child.communicate(request)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        raise OSError(errno.ECHILD, f"the child process ended with status {child.returncode}")
    return answer
