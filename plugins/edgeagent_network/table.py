"""The one nftables table in the kernel: what of a ruleset changed goes there, and what others did is undone.

Only this module talks to nft(8) about the table's content, and each change is one transaction: packets see
the table before it or after it. Connections that are there go on, for conntrack is not touched.
"""

import json
import re
from collections.abc import Callable, Mapping

from edgeagent.api.errors import TemporaryError
from edgeagent_network.generation import Generation
from edgeagent_network.programs import Runner
from edgeagent_network.ruleset import TABLE, Fragment, Ruleset
from edgeagent_network.script import Script, change, counts, whole

BASE_KEY = "base"
_ERROR_LINE = re.compile(r"(?m)(?:/dev/stdin|-):(\d+):[\d-]+: Error: (.*)$")
_MAX_LISTING_CHARACTERS = 256_000_000


class Table:
    """Keeps what it applied last. One at a time may use it, and nobody else the table.

    What a fragment of the ruleset ``base`` brings must always be accepted. Another that the kernel or nft
    refuses is left out, and all else is in force.
    """

    def __init__(self, run: Runner, generation: Generation) -> None:
        self._run = run
        self._read_generation = generation
        self._wanted: dict[str, Fragment] = {}
        self._applied: dict[str, Fragment] = {}
        self._refused: dict[str, str] = {}
        self._known = False
        self._generation = -1

    def apply(self, ruleset: Ruleset) -> dict[str, str]:
        """Put a ruleset in force; why a fragment is not, by its key.

        Costs a look at each key, and a transaction of what changed; none where nothing did and nobody else
        touched any table. Everything is put there anew in the process's first call, and where the table is
        not as it was left. TemporaryError where nft fails for another reason than a single fragment.
        """
        if not self.verify():
            self._replace(ruleset)
            return dict(self._refused)
        changed = {key for key, fragment in ruleset.items() if self._wanted.get(key) is not fragment}
        gone: set[str] = set()
        if len(ruleset) != len(self._wanted) + len(changed - self._wanted.keys()):
            gone = {key for key in self._wanted if key not in ruleset}
        if changed or gone:
            self._change(ruleset, changed, gone)
        return dict(self._refused)

    @property
    def applied(self) -> Ruleset:
        """What is in force."""
        return self._applied

    def verify(self) -> bool:
        """Whether the table is as it was left. Free while nobody changes any table; else it is listed, and
        its chains' rules and its sets' elements are counted.
        """
        if not self._known:
            return False
        generation = self._read_generation()
        if generation == self._generation:
            return True
        if self._count() != {name: count for name, count in counts(self._applied).items() if count >= 0}:
            return False
        if self._read_generation() == generation:
            self._generation = generation
        return True

    def remove(self) -> None:
        """Take the table away."""
        self._known = False
        self._run(["nft", "-f", "-"], f"add table inet {TABLE}\ndelete table inet {TABLE}\n")

    def _change(self, ruleset: Ruleset, changed: set[str], gone: set[str]) -> None:
        # What was refused for want of another may be accepted now.
        moved = changed | gone | self._refused.keys()
        refused: dict[str, str] = {}
        while True:
            before = {key: self._applied[key] for key in moved if key in self._applied}
            after = {key: ruleset[key] for key in moved - gone}
            kept = (fragment for key, fragment in self._applied.items() if key not in moved)
            script = change(before, after, kept)
            try:
                self._commit(script, self._generation)
            except TemporaryError as error:
                bad = _blame(str(error), script.key_at)
                if not bad or bad.keys() & {BASE_KEY, *gone}:
                    self._replace(ruleset)
                    return
                # What was in force of it before stays.
                refused |= bad
                moved -= bad.keys()
                continue
            break
        for key in before:
            del self._applied[key]
        for key in gone:
            del self._wanted[key]
        self._applied |= after
        self._wanted |= {key: ruleset[key] for key in changed}
        self._refused = refused

    def _commit(self, script: Script, expected: int | None = None) -> None:
        """``expected``: the generation in which the table was known to be as it was left."""
        if not script.lines:
            return
        before = self._read_generation()
        self._run(["nft", "-f", "-"], script.text())
        after = self._read_generation()
        # Where someone else changed something at the same moment, the table is counted at its next use.
        alone = after == before + 1 and expected in (None, before)
        self._generation = after if alone else -1

    def _replace(self, ruleset: Ruleset) -> None:
        """All of it anew, without the fragments that are refused."""
        accepted = dict(ruleset)
        refused: dict[str, str] = {}
        while True:
            script = whole(accepted)
            try:
                self._commit(script)
            except TemporaryError as error:
                bad = _blame(str(error), script.key_at)
                if not bad or BASE_KEY in bad:
                    self._known = False
                    raise
                for key in bad:
                    refused.setdefault(key, bad[key])
                    old = self._applied.get(key)
                    if old is None or accepted[key] is old:
                        del accepted[key]
                    else:
                        accepted[key] = old
                continue
            break
        self._wanted = dict(ruleset)
        self._applied = accepted
        self._refused = refused
        self._known = True

    def _count(self) -> dict[str, int]:
        """How much is there, by name; ``counts`` says of what."""
        text = self._run(["nft", "-j", "list", "table", "inet", TABLE], check=False)
        if not text or len(text) > _MAX_LISTING_CHARACTERS:
            return {}
        varying = {name for name, count in counts(self._applied).items() if count < 0}
        found: dict[str, int] = {}
        for item in json.loads(text)["nftables"]:
            for kind, thing in item.items():
                if kind == "rule":
                    chain = f"chain {thing['chain']}"
                    found[chain] = found.get(chain, 0) + 1
                elif kind == "chain":
                    found.setdefault(f"chain {thing['name']}", 0)
                elif kind in ("set", "map", "counter") and f"{kind} {thing['name']}" not in varying:
                    found[f"{kind} {thing['name']}"] = len(thing.get("elem", []))
        return found


def _blame(message: str, key_at: Callable[[int], str]) -> dict[str, str]:
    """Which fragments an error of nft names by line, and what it says of each."""
    found: Mapping[str, str] = {
        key_at(int(line)): said.strip() for line, said in reversed(_ERROR_LINE.findall(message))
    }
    return {key: said for key, said in found.items() if key}
