"""The three levels, and the labels by which a namespace chooses among them.

https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeagent.api.objects.pod import Pod
from edgeagent_security.podsecurity.baseline import BASELINE
from edgeagent_security.podsecurity.finding import Finding, Rule
from edgeagent_security.podsecurity.level import LEVELS, Level
from edgeagent_security.podsecurity.restricted import OVERRIDDEN, RESTRICTED

LABEL_PREFIX = "pod-security.kubernetes.io/"
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]{0,3})")

_RULES: Mapping[Level, Sequence[Rule]] = {
    "privileged": (),
    "baseline": tuple(BASELINE.values()),
    "restricted": (
        *(rule for name, rule in BASELINE.items() if name not in OVERRIDDEN),
        *RESTRICTED.values(),
    ),
}


class Policy(NamedTuple):
    """The levels of a namespace. ``problems``: what is wrong with its labels, a sentence for each."""

    enforce: Level
    warn: Level
    audit: Level
    problems: tuple[str, ...] = ()


def findings(level: Level, pod: Pod) -> list[Finding]:
    """What ``pod`` breaks of ``level``, in Kubernetes' order."""
    return [found for rule in _RULES[level] if (found := rule(pod)) is not None]


def policy_of(labels: Mapping[str, str], default: Level) -> Policy:
    """What a namespace's labels ask for; what they do not name is ``default`` to enforce, and nothing else.

    As in Kubernetes, an ``enforce`` that is no level is taken for ``restricted``, a ``warn`` or ``audit`` for
    none at all; a level that is enforced is warned of too. A version must be ``latest`` or ``v1.x``, and
    changes nothing: the rules are always the newest that this program has.
    """
    problems: list[str] = []
    enforce = _level(labels, "enforce", "restricted", problems)
    warn = _level(labels, "warn", "privileged", problems)
    audit = _level(labels, "audit", "privileged", problems)
    for mode in ("enforce", "warn", "audit"):
        version = labels.get(f"{LABEL_PREFIX}{mode}-version")
        if version is not None and _VERSION.fullmatch(version) is None:
            problems.append(
                f'label {LABEL_PREFIX}{mode}-version: {version[:63]!r} must be "latest" or "v1.x"'
            )
    # Of what is refused nobody is warned besides, so that a level enforced by default needs no warning.
    return Policy(enforce or default, warn or enforce or default, audit or "privileged", tuple(problems))


def _level(labels: Mapping[str, str], mode: str, otherwise: Level, problems: list[str]) -> Level | None:
    value = labels.get(f"{LABEL_PREFIX}{mode}")
    if value is None:
        return None
    for level in LEVELS:
        if value == level:
            return level
    problems.append(f"label {LABEL_PREFIX}{mode}: {value[:63]!r} must be one of {', '.join(LEVELS)}")
    return otherwise
