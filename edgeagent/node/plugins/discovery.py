"""Finding plugins: the entry points of group ``edgeagent``, and which of two with one name is refused.

Reads metadata only; nothing of a plugin is imported here. Every distribution is read in its own ``try``, for
one that is broken must not hide the others.
"""

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, EntryPoint, distributions

import msgspec
from msgspec.structs import replace

from edgeagent.api.hookspecs import GROUP

FIRST_PARTY = "edgeagent"
"""The distribution whose plugin names no other may take."""
_NAME = re.compile(r"[a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?", re.ASCII)


class Discovered(msgspec.Struct, frozen=True):
    """One entry point. ``problem`` says why it may not be loaded, empty where it may."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint | None
    problem: str = ""


def discover(entry_points: Iterable[EntryPoint] | None = None) -> list[Discovered]:
    """Every plugin there is, by name; of those with one name, the one to be loaded comes first.

    ``entry_points`` takes the place of what is installed.
    """
    found = _installed() if entry_points is None else [_describe(e) for e in entry_points if e.group == GROUP]
    found.sort(
        key=lambda one: (one.name, _canonical(one.distribution) != FIRST_PARTY, _canonical(one.distribution))
    )
    owners: dict[str, Discovered] = {}
    result: list[Discovered] = []
    for one in found:
        if one.entry_point is None:
            result.append(one)
        elif not _NAME.fullmatch(one.name):
            words = "must be lower-case letters, digits, '-' or '_', at most 63"
            result.append(replace(one, problem=f"the plugin's name {one.name[:80]!r} {words}"))
        elif owner := owners.get(one.name):
            result.append(
                replace(one, problem=f"the name {one.name} is taken by distribution {owner.distribution}")
            )
        else:
            owners[one.name] = one
            result.append(one)
    return result


def _installed() -> list[Discovered]:
    found: list[Discovered] = []
    seen: set[str] = set()
    for distribution in distributions():
        label = str(getattr(distribution, "_path", "")).rpartition("/")[2]
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if f"[{GROUP}]" not in text:
                continue
            label = distribution.name or label
            # A distribution that is found twice counts as the import system sees it: the first on the path.
            if (key := _canonical(label)) in seen:
                continue
            seen.add(key)
            found += [_describe(point) for point in distribution.entry_points if point.group == GROUP]
        except Exception as error:  # metadata is a stranger's file: any error in it is that stranger's alone
            problem = f"its metadata cannot be read: {type(error).__name__}: {error}"
            found.append(Discovered(label or "unknown", label, "", None, problem))
    return found


def _describe(point: EntryPoint) -> Discovered:
    owner: Distribution | None = getattr(point, "dist", None)
    if owner is None:
        return Discovered(point.name, "", "", point)
    return Discovered(point.name, str(owner.name or ""), str(owner.version or ""), point)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
