"""The table in ``docs/pod-support.md`` as data, and which tests claim its rows.

A test says which rows it shows by ``@covers("PodSpec.hostname", ...)``. The claims are read from the source
of the tests, so that they are known without running or importing them. Nothing here needs pytest.
"""

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar, get_args, get_type_hints

import msgspec

from edgeagent.api.objects.pod import PodSpec
from edgeagent.api.objects.support import Support, fields_of

WORDS: dict[str, Support] = {
    "works": "works",
    "accepted, no effect on one node": "no-effect",
    "refused": "refused",
}
"""The second column of the table, and what it means in the code."""

_HEADING = re.compile(r"### `(?P<struct>\w+)`")
_ROW = re.compile(r"\| `(?P<field>\w+)` \| (?P<words>[^|]+) \| (?P<remark>.*) \|")

F = TypeVar("F", bound=Callable[..., object])


class Row(NamedTuple):
    """One row: ``struct`` is a section of the table, ``field`` is spelt as Kubernetes spells it."""

    struct: str
    field: str
    support: Support

    @property
    def id(self) -> str:
        """``PodSpec.hostname``: what tests claim the row by. It stays as long as the field does."""
        return f"{self.struct}.{self.field}"


def table_path() -> Path:
    """Where the table is, also when the tests run from a copy beside an installed wheel."""
    checkout = os.environ.get("EDGEAGENT_CHECKOUT") or Path(__file__).parents[2]
    return Path(checkout) / "docs" / "pod-support.md"


def rows() -> list[Row]:
    """The rows of ``docs/pod-support.md`` in their order; ValueError names a line that cannot be read."""
    return list(parse(table_path().read_text()))


def parse(text: str) -> Iterator[Row]:
    """The rows of a table. A section begins with a heading that names its struct, and ends at the next."""
    struct = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            heading = _HEADING.match(line)
            struct = heading["struct"] if heading else ""
        elif struct and line.startswith("| `"):
            row = _ROW.fullmatch(line)
            if row is None or row["words"] not in WORDS or not row["remark"].strip():
                raise ValueError(f"line {number} is no row: {line}")
            yield Row(struct, row["field"], WORDS[row["words"]])


@cache
def structs() -> dict[str, type[msgspec.Struct]]:
    """By its name, PodSpec and every struct below it, in the order in which its fields lead there."""
    found: dict[str, type[msgspec.Struct]] = {}
    waiting: list[object] = [PodSpec]
    while waiting:
        hint = waiting.pop(0)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            if hint.__name__ not in found:
                found[hint.__name__] = hint
                waiting += get_type_hints(hint).values()
        else:
            waiting += get_args(hint)
    return found


def rows_of_code() -> list[Row]:
    """What the table must say: a row for each field of each struct."""
    return [
        Row(name, field.encoded, field.support)
        for name, struct in structs().items()
        for field in fields_of(struct)
    ]


def covers(*ids: str) -> Callable[[F], F]:
    """Say that a test shows the rows of these ids, as literal text; ValueError for an id that is no row."""
    known = {row.id for row in rows_of_code()}
    if unknown := [one for one in ids if one not in known]:
        raise ValueError(f"no row of docs/pod-support.md: {', '.join(unknown)}")

    def mark(function: F) -> F:
        claimed: tuple[str, ...] = getattr(function, "covers", ())
        function.covers = (*ids, *claimed)  # type: ignore[attr-defined]
        return function

    return mark


def claims(source: str) -> set[str]:
    """The ids that ``@covers(...)`` claims in a test file's source."""
    return {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and _name(decorator.func) == "covers"
        for argument in decorator.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def uncovered(table: Iterable[Row], test_files: Iterable[Path]) -> list[str]:
    """The ids of the rows that work and that no test in ``test_files`` claims, in the table's order."""
    claimed: set[str] = set()
    for path in test_files:
        claimed |= claims(path.read_text())
    return [row.id for row in table if row.support == "works" and row.id not in claimed]
