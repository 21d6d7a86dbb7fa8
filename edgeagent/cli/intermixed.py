"""Options and names of a command in any order, for the parsers of all programs."""

import argparse
from collections.abc import Sequence


class IntermixedParser(argparse.ArgumentParser):
    """A command's own part of the line, with options and names in any order: ``get pod -o wide hello``.

    argparse by itself fills every name that may be left out as soon as it meets the first of them, and
    refuses what comes after an option. A command that has commands of its own leaves the order to these.
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
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False
