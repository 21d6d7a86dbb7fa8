"""Options and names of a command in any order, for the parsers of all programs."""

import argparse
import sys
from collections.abc import Sequence


class IntermixedParser(argparse.ArgumentParser):
    """A command's own part of the line, with options and names in any order: ``get pod -o wide hello``.

    argparse by itself fills every name that may be left out as soon as it meets the first of them, and
    refuses what comes after an option. A command that has commands of its own leaves the order to these.
    A switch may be written with its value, as kubectl's help does: ``--all-containers=true``.
    """

    _intermixing = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's own, intermixed; that one calls this one again for each of its two passes."""
        if self._intermixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            words = self._switched(sys.argv[1:] if args is None else args)
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._intermixing = False

    def _switched(self, words: Sequence[str]) -> list[str]:
        """``--follow=true`` as ``--follow``, and nothing of a switch that ``--follow=false`` turns off."""
        switches = {
            option
            for action in self._actions
            if action.nargs == 0 and action.const is True
            for option in action.option_strings
        }
        found: list[str] = []
        for at, word in enumerate(words):
            if word == "--":
                return [*found, *words[at:]]
            name, equals, value = word.partition("=")
            if not equals or name not in switches or value.lower() not in ("true", "false"):
                found.append(word)
            elif value.lower() == "true":
                found.append(name)
            else:
                found = [one for one in found if one != name]
        return found
