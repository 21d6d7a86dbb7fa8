"""Kubernetes manifests from files, directories and standard input, as checked objects.

Every problem names the file, the number of the document in it, and the path inside that document; all
problems of all files are found in one go.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, get_args

import msgspec

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.decode import KINDS, MAX_OBJECT_BYTES, decode_object
from edgeagent.api.objects.network import HostFirewall
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.redaction import refuse_redacted
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.api.objects.validate import validate_label
from edgeagent.wire.jsonio import DocumentError
from edgeagent.wire.normalise import normalise
from edgeagent.wire.yamlio import read_documents

MAX_FILE_BYTES = 4_000_000
"""The largest file (or standard input) that is read."""
MAX_FILES = 1000
"""How many files one directory may bring."""
SUFFIXES = (".yaml", ".yml", ".json")
"""The files of a directory that are read."""

Workload = Pod | ConfigMap | Secret | Service | EndpointSlice | NetworkPolicy
Applicable = Workload | Namespace | HostFirewall | RoleBinding | ClusterRoleBinding
"""What a person may write."""

_CLUSTER_SCOPED = (Namespace, HostFirewall, ClusterRoleBinding)
_LIST_KINDS = frozenset(["List", *(f"{kind}List" for kind in KINDS)])
_LIST_FIELDS = frozenset(["apiVersion", "kind", "metadata", "items"])


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object and where it was written: ``source`` as in ``examples/hello.yaml: document 2``."""

    source: str
    object: Applicable

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return type(self.object).__name__, self.object.metadata.namespace, self.object.metadata.name


class ManifestError(EdgeAgentError):
    """Something is wrong with one or more manifests: ``problems`` holds a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def read_manifests(
    names: Sequence[str],
    *,
    namespace: str = "default",
    enforce_namespace: bool = False,
    recursive: bool = False,
    stdin: BinaryIO | None = None,
) -> list[Manifest]:
    """The objects of all ``names`` (files, directories, ``-`` for ``stdin``), in order; raises ManifestError.

    ``namespace`` is given to objects that name none; with ``enforce_namespace`` another one is a problem.
    """
    try:
        validate_label(namespace, "namespace")
    except InvalidObjectError as error:
        raise ManifestError([str(error)]) from None
    problems: list[str] = []
    found: list[Manifest] = []
    seen: dict[tuple[str, str, str], str] = {}
    for name in names:
        try:
            sources = list(_sources(name, recursive=recursive, stdin=stdin))
        except ManifestError as error:
            problems += error.problems
            continue
        for label, text in sources:
            for manifest in _objects(label, text, problems, namespace=namespace, enforce=enforce_namespace):
                if (first := seen.get(manifest.key)) is not None:
                    kind, where, called = manifest.key
                    problems.append(
                        f"{manifest.source}: {kind.lower()} {where}/{called} is already defined in {first}"
                    )
                    continue
                seen[manifest.key] = manifest.source
                found.append(manifest)
    if problems:
        raise ManifestError(problems)
    return found


def _sources(name: str, *, recursive: bool, stdin: BinaryIO | None) -> Iterator[tuple[str, bytes]]:
    if name == "-":
        yield "<stdin>", _read("<stdin>", stdin or sys.stdin.buffer)
        return
    if "://" in name:
        raise ManifestError([f"{name}: URLs are not read; fetch it and give the file"])
    path = Path(name)
    if not path.exists():
        raise ManifestError([f"the path {name!r} does not exist"])
    if not path.is_dir():
        yield name, _read_file(name)
        return
    files = _walk(name, recursive=recursive)
    if not files:
        deeper = "" if recursive else " (-R looks in its directories too)"
        raise ManifestError([f"{name}: no .yaml, .yml or .json file in this directory{deeper}"])
    if len(files) > MAX_FILES:
        raise ManifestError([f"{name}: more than {MAX_FILES} files"])
    for file in files:
        yield file, _read_file(file)


def _walk(name: str, *, recursive: bool) -> list[str]:
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise ManifestError([f"{error.filename}: {error.strerror}"])

    for folder, folders, files in os.walk(name, onerror=refuse):
        if not recursive:
            folders.clear()
        folders.sort()
        found += [os.path.join(folder, file) for file in sorted(files) if file.endswith(SUFFIXES)]
    return found


def _read_file(name: str) -> bytes:
    try:
        with open(name, "rb") as stream:
            return _read(name, stream)
    except OSError as error:
        raise ManifestError([f"{name}: {error.strerror}"]) from None


def _read(label: str, stream: BinaryIO) -> bytes:
    text = stream.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise ManifestError([f"{label}: more than {MAX_FILE_BYTES} bytes"])
    return text


def _objects(
    label: str, text: bytes, problems: list[str], *, namespace: str, enforce: bool
) -> Iterator[Manifest]:
    count = 0
    try:
        for document in read_documents(text):
            count += 1
            for path, data in _items(document.data):
                where = f"{label}: document {document.number}"
                try:
                    made = _decode(data, namespace=namespace, enforce=enforce)
                except InvalidObjectError as error:
                    problems.append(f"{where}: {error.within(path) if path else error}")
                    continue
                yield Manifest(f"{where}: {path}" if path else where, made)
    except DocumentError as error:
        problems.append(f"{label}: {error}")
        return
    if not count:
        problems.append(f"{label}: there is no object in it")


def _items(data: object) -> Iterator[tuple[str, object]]:
    """The object itself, or the items of a List with their paths."""
    if not isinstance(data, dict) or data.get("kind") not in _LIST_KINDS:
        yield "", data
        return
    unknown = sorted(set(data) - _LIST_FIELDS)
    items = data.get("items")
    if unknown or not isinstance(items, list):
        yield "", _Broken(unknown[0], "unknown field") if unknown else _Broken("items", "expected array")
        return
    for index, item in enumerate(items):
        yield f"items[{index}]", item


@dataclass(frozen=True, slots=True)
class _Broken:
    """In place of data: what is wrong with it."""

    path: str
    problem: str


def _decode(data: object, *, namespace: str, enforce: bool) -> Applicable:
    if isinstance(data, _Broken):
        raise InvalidObjectError(data.path, data.problem)
    data = normalise(data)
    try:
        made = decode_object(data)
    except InvalidObjectError as error:
        raise _with_key(data, error) from None
    if not isinstance(made, Applicable):
        expected = ", ".join(kind.__name__ for kind in get_args(Applicable))
        raise InvalidObjectError(
            "kind", f"{type(made).__name__} is not for a manifest, expected one of {expected}"
        )
    if isinstance(made, Secret):
        refuse_redacted(made)
    own = made.metadata.namespace
    if isinstance(made, _CLUSTER_SCOPED):
        if own:
            raise InvalidObjectError(
                "metadata.namespace", f"a {type(made).__name__} is in no namespace: leave it out"
            )
    elif not own:
        made = msgspec.structs.replace(
            made, metadata=msgspec.structs.replace(made.metadata, namespace=namespace)
        )
    else:
        validate_label(own, "metadata.namespace")
        if enforce and own != namespace:
            raise InvalidObjectError(
                "metadata.namespace", f"{own!r} does not match the namespace {namespace!r} asked for"
            )
    try:
        size = len(msgspec.json.encode(made))
    except UnicodeEncodeError:
        raise InvalidObjectError("", "holds text that is no Unicode (half of a surrogate pair)") from None
    if size > MAX_OBJECT_BYTES:
        raise InvalidObjectError("", f"{size} bytes, more than the {MAX_OBJECT_BYTES} allowed")
    return made


def _with_key(data: object, error: InvalidObjectError) -> InvalidObjectError:
    """The error with the key in its path where the decoder only says "some key" (``data[*]``)."""
    prefix, star, rest = error.path.partition("[*]")
    steps = [int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", prefix)]
    mapping = _at(data, steps)
    if not star or not isinstance(mapping, dict) or not mapping:
        return error
    keys = list(mapping)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        try:
            decode_object(_replaced(data, steps, {key: mapping[key] for key in half}))
        except InvalidObjectError as other:
            keys = half if other.path == error.path else keys[len(half) :]
        else:
            keys = keys[len(half) :]
    return InvalidObjectError(f"{prefix}.{keys[0]}{rest}", error.problem)


def _at(data: object, steps: Sequence[int | str]) -> object:
    for step in steps:
        if isinstance(data, dict) and isinstance(step, str):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def _replaced(data: object, steps: Sequence[int | str], value: object) -> object:
    """A copy of ``data`` with another value at ``steps``; what is not on the way there is shared."""
    if not steps:
        return value
    if isinstance(data, dict):
        return {
            key: _replaced(one, steps[1:], value) if key == steps[0] else one for key, one in data.items()
        }
    if isinstance(data, list):
        return [_replaced(one, steps[1:], value) if i == steps[0] else one for i, one in enumerate(data)]
    return data
