"""``$(VAR)`` in commands, arguments, variables and ``subPathExpr``, as Kubernetes expands it.

https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

import re
from collections.abc import Mapping

from edgeagent.api.errors import PermanentError

MAX_EXPANDED = 128 * 1024
"""The longest text that comes out, in characters: the kernel takes no longer argument or variable."""

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with each ``$(NAME)`` replaced; ``$$`` gives ``$``, and an unknown name stays as it stands.

    PermanentError (reason ``CreateContainerConfigError``) where the expansion exceeds ``MAX_EXPANDED``.
    """
    return _expand(text, variables, strict=False)


def expand_strict(text: str, variables: Mapping[str, str]) -> str:
    """As ``expand``, but an unknown name is a PermanentError (reason ``CreateContainerConfigError``)."""
    return _expand(text, variables, strict=True)


def _expand(text: str, variables: Mapping[str, str], *, strict: bool) -> str:
    grown = 0

    def replacement(match: re.Match[str]) -> str:
        nonlocal grown
        if (name := match[1]) is None:
            return "$"
        if (value := variables.get(name)) is None:
            if strict:
                raise _error(f"missing value for {name[:80]!r}")
            return match[0]
        grown += len(value)
        if grown > MAX_EXPANDED:
            raise _error(f"{text[:40]!r} is expanded to more than {MAX_EXPANDED} characters")
        return value

    # After the last ")" nothing is a reference; leaving that out keeps the search linear.
    end = text.rfind(")") + 1
    return _REFERENCE.sub(replacement, text[:end]) + text[end:].replace("$$", "$")


def _error(message: str) -> PermanentError:
    return PermanentError(message, reason="CreateContainerConfigError")
