"""YAML and JSON text to plain data and back, bounded: the one user of PyYAML.

Node and operator must read a manifest alike, so they read it here. The node does so in a child process
(``edgeagent.node.static.child``), and the agent itself never imports this module.

Reads what Kubernetes tools read, which is YAML's JSON-like part: mappings with text keys, sequences, text,
numbers, booleans and null. Dates stay text, ``1:30`` is no number, a key that stands twice is refused, and
a document that would unfold beyond ``MAX_VALUES`` by its aliases is refused before it is unfolded.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from edgeagent.wire.jsonio import MAX_DEPTH, MAX_VALUES, DocumentError, read_json

MAX_DOCUMENTS = 1000
"""How many documents one text may hold."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_STANDARD = "tag:yaml.org,2002:"
_SCALARS = frozenset(_STANDARD + name for name in ("str", "int", "float", "bool", "null"))
_FOREIGN = frozenset(
    _STANDARD + name
    for name in ("binary", "map", "merge", "omap", "pairs", "seq", "set", "timestamp", "value")
)
_NAMES = re.compile(r""" ?(?:'[^'<][^']+'|"[^"<][^"]+")""")
"""What PyYAML quotes of the text: an anchor, a tag. Not a character, and not ``'<scalar>'``."""
_TOO_DEEP = "exceeded maximum nesting depth"
"""What libyaml says from 0.2.6 on, whose own limit is far beyond ours, where it reads ahead to it."""
_INT = re.compile(r"^(?:[-+]?0b[0-1_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*))$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


class Document(msgspec.Struct, frozen=True):
    """One document that is not empty: its number in the text, from 1, and its data."""

    number: int
    data: object


class _ManifestLoader(_Loader):  # type: ignore[misc]
    """The safe loader without timestamps and base-60 numbers."""


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    replaced = {"timestamp", "int", "float"}
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {
        first: [(tag, pattern) for tag, pattern in pairs if tag.removeprefix(_STANDARD) not in replaced]
        for first, pairs in _Loader.yaml_implicit_resolvers.items()
    }
    for name, pattern, firsts in (("float", _FLOAT, "-+0123456789."), ("int", _INT, "-+0123456789")):
        for first in firsts:
            table.setdefault(first, []).append((_STANDARD + name, pattern))
    return table


def _construct_int(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    base = {"0b": 2, "0x": 16, "0o": 8}.get(digits[:2], 8 if len(digits) > 1 and digits[0] == "0" else 10)
    return int(text, base)


_ManifestLoader.yaml_implicit_resolvers = _resolvers()
_ManifestLoader.add_constructor(_STANDARD + "int", _construct_int)


def read_documents(text: bytes) -> Iterator[Document]:
    """The documents of ``text`` that are not empty, one by one; raises DocumentError."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(0, f"not UTF-8 text (byte {error.start})") from None
    if decoded.lstrip().startswith("{"):
        try:
            data = read_json(decoded)
        except json.JSONDecodeError as error:
            json_problem: str | None = f"line {error.lineno}, column {error.colno}: {error.msg} (JSON)"
        else:
            yield Document(1, data)
            return
    else:
        json_problem = None
    _check_shape(decoded, json_problem)
    loader = _ManifestLoader(decoded)
    try:
        number = 0
        while True:
            number += 1
            try:
                if not loader.check_node():
                    return
                node = loader.get_node()
                _check_node(node, number)
                data = loader.construct_document(node)
            except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
                raise DocumentError(number, _problem(error)) from None
            if data is not None:
                yield Document(number, data)
    finally:
        loader.dispose()


def _check_shape(text: str, json_problem: str | None) -> None:
    """Refuse what is too deep or too long, from the event stream alone: nothing is built for it."""
    number = depth = values = 0
    loader = _ManifestLoader(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                number, depth, values = number + 1, 0, 0
                if number > MAX_DOCUMENTS:
                    raise DocumentError(number, f"more than {MAX_DOCUMENTS} documents")
            elif isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    raise DocumentError(
                        number, f"{_place(event.start_mark)}nested more than {MAX_DEPTH} deep"
                    )
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            values += isinstance(event, yaml.NodeEvent)
            if values > MAX_VALUES:
                raise DocumentError(number, f"more than {MAX_VALUES} values")
    except yaml.YAMLError as error:
        raise DocumentError(max(number, 1), json_problem or _problem(error)) from None
    finally:
        loader.dispose()


def _check_node(root: Any, number: int) -> None:
    """Refuse doubled keys, keys that are not text, foreign tags, and aliases that unfold too far."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any, path: str, depth: int) -> int:
        if id(node) in open_nodes:
            raise DocumentError(
                number, f"{_place(node.start_mark)}{_at(path)}an alias refers to what it is part of"
            )
        if (known := sizes.get(id(node))) is not None:
            return known
        if depth > MAX_DEPTH:
            raise DocumentError(
                number, f"{_place(node.start_mark)}{_at(path)}nested more than {MAX_DEPTH} deep"
            )
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            _check_tag(node, "map", path, number)
            seen: dict[str, Any] = {}
            for key, value in node.value:
                name = _key(key, path, number)
                if name in seen:
                    raise DocumentError(
                        number,
                        f"{_place(key.start_mark)}{_at(path)}duplicate key {name!r} "
                        f"(first on line {seen[name].line + 1})",
                    )
                seen[name] = key.start_mark
                total += 1 + size(value, f"{path}.{name}" if path else name, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            _check_tag(node, "seq", path, number)
            for index, value in enumerate(node.value):
                total += size(value, f"{path}[{index}]", depth + 1)
        elif node.tag not in _SCALARS:
            raise _foreign(node, path, number)
        if total > MAX_VALUES:
            raise DocumentError(
                number, f"{_at(path)}more than {MAX_VALUES} values once its aliases are unfolded"
            )
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    size(root, "", 0)


def _key(key: Any, path: str, number: int) -> str:
    if key.tag == _STANDARD + "merge":
        return "<<"
    if key.tag == _STANDARD + "str":
        return str(key.value)
    kind = key.tag.removeprefix(_STANDARD) if key.tag in _SCALARS else "collection"
    shown = f" ({key.value[:40]!r}, to be put in quotes)" if isinstance(key.value, str) else ""
    raise DocumentError(number, f"{_place(key.start_mark)}{_at(path)}a key must be str, got {kind}{shown}")


def _check_tag(node: Any, name: str, path: str, number: int) -> None:
    if node.tag != _STANDARD + name:
        raise _foreign(node, path, number)


def _foreign(node: Any, path: str, number: int) -> DocumentError:
    # What is no tag of YAML's own may be the beginning of a password.
    tag = str(node.tag)
    known = f" {tag.replace(_STANDARD, '!!')!r}" if tag in _FOREIGN else ""
    return DocumentError(
        number,
        f"{_place(node.start_mark)}{_at(path)}the tag{known} has no place here:"
        " text that begins with '!' must be in quotes",
    )


def _at(path: str) -> str:
    return f"{path}: " if path else ""


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError):
        if error.problem == _TOO_DEEP:
            return f"{_place(error.problem_mark)}nested too deeply"
        # Quoted is what stands there, which may be a value that nobody is to see.
        words = ": ".join(_NAMES.sub("", part) for part in (error.context, error.problem) if part)
        return f"{_place(error.problem_mark)}{words}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character at position {error.position} is not allowed in YAML"
    return "a number that cannot be read"


class _ManifestDumper(_Dumper):  # type: ignore[misc]
    """The safe dumper, with text of several lines as a block, and nothing shared by anchors."""

    def ignore_aliases(self, data: object) -> bool:
        """Never write an anchor."""
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar(_STANDARD + "str", text, style="|" if "\n" in text else None)


# Quoted is what any reader might take for a number: this one, or one that knows base 60 and dates.
_ManifestDumper.yaml_implicit_resolvers = {
    first: [*_Dumper.yaml_implicit_resolvers.get(first, ()), *pairs]
    for first, pairs in _ManifestLoader.yaml_implicit_resolvers.items()
}
_ManifestDumper.add_representer(str, _represent_text)


def dump(data: object, *, ascii_only: bool = False) -> str:
    """Plain data as one YAML document with sorted keys; ``ascii_only`` escapes every other character."""
    written = yaml.dump(
        data,
        Dumper=_ManifestDumper,
        default_flow_style=False,
        allow_unicode=not ascii_only,
        sort_keys=True,
        width=2**20,
    )
    return str(written)
