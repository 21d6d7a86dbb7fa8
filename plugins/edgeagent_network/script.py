"""Scripts of nft(8) that lead from one set of fragments to another, in one transaction.

Each line is a command of one fragment, so that the line of an error names the fragment.
"""

import re
from collections.abc import Iterable, Mapping

from edgeagent_network.ruleset import TABLE, Chain, Fragment, Ruleset

_NAME = re.compile(r"@([a-zA-Z0-9_/.-]+)")
_WHERE = f"inet {TABLE}"


class Script:
    """Lines, and which fragment each is of."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.keys: list[str] = []

    def add(self, key: str, line: str) -> None:
        """Add a line of the fragment ``key``. A statement may not hold a line's end."""
        self.lines.append(line)
        self.keys.append(key)

    def text(self) -> str:
        """What nft reads."""
        return "\n".join(self.lines) + "\n" if self.lines else ""

    def key_at(self, line: int) -> str:
        """Whose the line of this number is; numbers begin at 1. Empty for a number out of range."""
        return self.keys[line - 1] if 0 < line <= len(self.keys) else ""


def whole(ruleset: Ruleset) -> Script:
    """Replaces the table, whatever it is or whether it is."""
    script = Script()
    for line in (f"add table {_WHERE}", f"delete table {_WHERE}", f"add table {_WHERE}"):
        script.add("", line)
    _fill(script, _Parts({}), _Parts(ruleset))
    return script


def change(before: Ruleset, after: Ruleset, kept: Iterable[Fragment] = ()) -> Script:
    """Leads from the fragments ``before`` to ``after``; all of it may be left out of both that stays.

    ``kept`` are the fragments that stay, and are looked at only where a set or map must be made anew.
    """
    script = Script()
    old, new = _Parts(before), _Parts(after)
    remade = {
        name
        for name, text in (*new.sets.items(), *new.maps.items())
        if (name in old.sets or name in old.maps) and text not in (old.sets.get(name), old.maps.get(name))
    }
    if remade:
        for number, fragment in enumerate(kept):
            _touch(fragment, f"\0{number}", remade, old, new)
        for name in remade:
            old.again.add(name)
    _fill(script, old, new)
    return script


class _Parts:
    """All parts of some fragments by name, with the key of the fragment that each is of."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.chains: dict[str, Chain] = {}
        self.sets: dict[str, str] = {}
        self.maps: dict[str, str] = {}
        self.counters: dict[str, None] = {}
        self.elements: dict[tuple[str, str], str] = {}
        self.key_of: dict[tuple[str, ...], str] = {}
        self.again: set[str] = set()
        for key, fragment in ruleset.items():
            self.take(key, fragment)

    def take(self, key: str, fragment: Fragment) -> None:
        for kind, part in (("chain", fragment.chains), ("set", fragment.sets), ("map", fragment.maps)):
            for name in part:
                self.key_of[kind, name] = key
        for name in fragment.counters:
            self.key_of["counter", name] = key
            self.counters[name] = None
        self.chains.update(fragment.chains)
        self.sets.update(fragment.sets)
        self.maps.update(fragment.maps)
        for name, elements in fragment.elements.items():
            for element, value in elements.items():
                self.elements[name, element] = value
                self.key_of["element", name, element] = key


def _touch(fragment: Fragment, key: str, remade: set[str], old: _Parts, new: _Parts) -> None:
    """Count in what of a fragment that stays holds on to the sets that are made anew."""
    chains = {
        name: chain
        for name, chain in fragment.chains.items()
        if any(remade.intersection(_NAME.findall(rule)) for rule in chain.rules)
    }
    elements = {name: held for name, held in fragment.elements.items() if name in remade}
    held = Fragment(chains=chains, elements=elements)
    new.take(key, held)
    old.take(key, held)
    for name in chains:
        old.again.add(f"chain {name}")


def _fill(script: Script, old: _Parts, new: _Parts) -> None:
    def line(key: tuple[str, ...], text: str, of: _Parts = new) -> None:
        owner = of.key_of[key]
        script.add("" if owner.startswith("\0") else owner, text)

    rebased = {name for name, chain in new.chains.items() if _is_rebased(old.chains.get(name), chain)}
    gone_chains = [name for name in old.chains if name not in new.chains or name in rebased]
    refilled = [
        name
        for name, chain in new.chains.items()
        if name not in old.chains
        or name in rebased
        or chain.rules != old.chains[name].rules
        or f"chain {name}" in old.again
        or any(old.again.intersection(_NAME.findall(rule)) for rule in chain.rules)
    ]
    # What new parts are made of comes first, then what is held goes, then the new holds on.
    for kind, was, now in (("set", old.sets, new.sets), ("map", old.maps, new.maps)):
        for name, text in now.items():
            if name not in was:
                line((kind, name), f"add {kind} {_WHERE} {name} {{ {text} }}")
    for name in new.counters:
        if name not in old.counters:
            line(("counter", name), f"add counter {_WHERE} {name}")
    for name, chain in new.chains.items():
        if name not in old.chains:
            line(("chain", name), _add_chain(name, chain))
        elif chain.hook != old.chains[name].hook and name not in rebased:
            line(("chain", name), _add_chain(name, chain))  # another policy
    for name in (*gone_chains, *refilled):
        if name in old.chains:
            line(("chain", name), f"flush chain {_WHERE} {name}", old)
    _delete_elements(script, old, new)
    for kind, was, now in (("map", old.maps, new.maps), ("set", old.sets, new.sets)):
        for name in was:
            if name not in now or name in old.again:
                line((kind, name), f"delete {kind} {_WHERE} {name}", old)
                if name in now:
                    line((kind, name), f"add {kind} {_WHERE} {name} {{ {now[name]} }}")
    for name in gone_chains:
        line(("chain", name), f"delete chain {_WHERE} {name}", old)
        if name in rebased:
            line(("chain", name), _add_chain(name, new.chains[name]))
    for name in old.counters:
        if name not in new.counters:
            line(("counter", name), f"delete counter {_WHERE} {name}", old)
    for name in refilled:
        for rule in new.chains[name].rules:
            line(("chain", name), f"add rule {_WHERE} {name} {rule}")
    _add_elements(script, old, new)


def _is_rebased(old: Chain | None, new: Chain) -> bool:
    """Whether a chain's hook becomes another. Its policy alone can be changed where it is."""
    return old is not None and _without_policy(old.hook) != _without_policy(new.hook)


def _without_policy(hook: str) -> str:
    return re.sub(r"\s*policy \w+;", "", hook).strip()


def _add_chain(name: str, chain: Chain) -> str:
    return f"add chain {_WHERE} {name}" + (f" {{ {chain.hook} }}" if chain.hook else "")


def _delete_elements(script: Script, old: _Parts, new: _Parts) -> None:
    gone: dict[tuple[str, str], list[str]] = {}
    for (name, element), value in old.elements.items():
        stays = new.elements.get((name, element)) == value
        whole_goes = name in old.again or (
            (name in old.sets or name in old.maps) and name not in new.sets and name not in new.maps
        )
        if not stays and not whole_goes:
            gone.setdefault((old.key_of["element", name, element], name), []).append(element)
    for (key, name), elements in gone.items():
        script.add(key, f"delete element {_WHERE} {name} {{ {', '.join(elements)} }}")


def _add_elements(script: Script, old: _Parts, new: _Parts) -> None:
    added: dict[tuple[str, str], list[str]] = {}
    for (name, element), value in new.elements.items():
        if name in old.again or old.elements.get((name, element)) != value:
            key = new.key_of["element", name, element]
            added.setdefault((key, name), []).append(f"{element} : {value}" if value else element)
    for (key, name), elements in added.items():
        owner = "" if key.startswith("\0") else key
        script.add(owner, f"add element {_WHERE} {name} {{ {', '.join(elements)} }}")


def counts(fragments: Mapping[str, Fragment]) -> dict[str, int]:
    """How much there must be: rules by ``chain NAME``, elements by ``set NAME`` or ``map NAME`` (-1 where
    the kernel may hold another number of them: packets add to it, or ranges are merged).
    """
    found: dict[str, int] = {}
    elements: dict[str, int] = {}
    for fragment in fragments.values():
        for name, held in fragment.elements.items():
            elements[name] = elements.get(name, 0) + len(held)
    for fragment in fragments.values():
        found.update({f"chain {name}": len(chain.rules) for name, chain in fragment.chains.items()})
        for kind, part in (("set", fragment.sets), ("map", fragment.maps)):
            for name, text in part.items():
                varies = any(word in text for word in ("dynamic", "timeout", "auto-merge"))
                found[f"{kind} {name}"] = -1 if varies else elements.get(name, 0)
        found.update({f"counter {name}": 0 for name in fragment.counters})
    return found
