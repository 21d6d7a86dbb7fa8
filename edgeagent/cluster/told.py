"""What nodes are told beside their own pods, and what is wrong with what would be told.

May not know what the objects are made of, nor when anybody is told.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.cluster.desired import Wanted, travelling

log = logging.getLogger(__name__)

Source = tuple[str, str, str]
"""What objects come of: a kind, a namespace and a name."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One object, and the one node that is not told of it; empty where all are."""

    of: KubernetesObject
    wanted: Wanted
    all_but: str


class Told:
    """Objects by what they come of. What equals what it was stays the very same, and is not encoded again.

    Changes are made between ``begin`` and ``commit``. Without ``commit`` all stays as it was.
    """

    def __init__(self) -> None:
        self._lines: dict[Source, tuple[_Line, ...]] = {}
        self._staged: dict[Source, tuple[_Line, ...]] = {}
        self._anew = False

    def begin(self, *, anew: bool) -> None:
        """Forget what was not committed. ``anew``: what is not put in until ``commit`` is gone."""
        self._staged, self._anew = {}, anew

    def put(self, source: Source, objects: Iterable[KubernetesObject], *, all_but: str = "") -> None:
        """All that comes of ``source`` now."""
        before = {line.of.metadata.uid: line for line in self._lines.get(source, ())}
        lines = []
        for one in objects:
            line = before.get(one.metadata.uid)
            if line is None or line.of != one or line.all_but != all_but:
                line = _Line(one, travelling(one), all_but)
            lines.append(line)
        self._staged[source] = tuple(lines)

    def has(self, source: Source, one: KubernetesObject) -> bool:
        """Whether this very thing was told of ``source`` before."""
        return any(line.of == one for line in self._lines.get(source, ()))

    def commit(self) -> bool:
        """Whether anything is another than before."""
        if self._anew:
            self._staged = dict.fromkeys(self._lines, ()) | self._staged
        changed = False
        for source, lines in self._staged.items():
            before = self._lines.get(source, ())
            if len(lines) == len(before) and all(a is b for a, b in zip(lines, before, strict=True)):
                continue
            changed = True
            if lines:
                self._lines[source] = lines
            else:
                del self._lines[source]
        self._staged = {}
        return changed

    def of(self, origin: str) -> list[KubernetesObject]:
        """What comes of sources of the kind ``origin``."""
        return [line.of for (kind, _, _), lines in self._lines.items() if kind == origin for line in lines]

    def for_node(self, node: str) -> list[Wanted]:
        """What ``node`` is told."""
        return [line.wanted for lines in self._lines.values() for line in lines if line.all_but != node]


class Problems:
    """What is wrong, by what it is about: told once when it begins."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}
        self._before: dict[str, set[str]] = {}

    def begin(self) -> None:
        """Everything is looked at: what is not noted again until ``end`` is well."""
        self._before |= self._known
        self._known = {}

    def end(self) -> None:
        """Everything was looked at."""
        self._before = {}

    def note(self, about: str, problem: str, *, part: str = "") -> None:
        """What is wrong with ``part`` of ``about``; an empty ``problem`` where nothing is."""
        parts = self._known.setdefault(about, set())
        if problem:
            if not parts and about not in self._before:
                log.warning("%s: %s", about, problem)
            parts.add(part)
        else:
            parts.discard(part)
            if not parts:
                del self._known[about]
