"""The command that is to run in a container: what follows ``--`` of ``exec``."""

from collections.abc import Sequence


def split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """``exec -it web -- sh -c ls`` as the program's own words, and what it is to run.

    argparse would take options out of the latter. Without ``exec`` before it a ``--`` is argparse's own.
    """
    own = list(words)
    if "--" not in own or "exec" not in own[: own.index("--")]:
        return own, []
    dash = own.index("--")
    return own[:dash], own[dash + 1 :]
