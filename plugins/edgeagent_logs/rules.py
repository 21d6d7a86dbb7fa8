"""The rules of ``[[plugins.logs.rules]]``, made ready for one container or unit, to apply to its records."""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Protocol

import msgspec

from edgeagent.api.logs import LogOrigin, Severity
from edgeagent_logs.config import PatternConfig
from edgeagent_logs.patterns import checked_pattern, redaction
from edgeagent_logs.ruleconfig import (
    DropRule,
    KeepRule,
    RedactRule,
    Rule,
    RuleConfig,
    SampleRule,
    SeverityRule,
)


class Draft(msgspec.Struct):
    """A record on its way through the rules. ``fields`` is empty where the line had none."""

    stream: str
    body: str
    severity: Severity
    fields: dict[str, Any]


Step = Callable[[Draft], str]
"""Changes the draft; answers with why it is left out, or nothing where it goes on."""


class Scope(Protocol):
    """What names containers: a rule, or a pattern of multi-line records."""

    @property
    def namespace(self) -> str | None:
        """A pattern of names, as are the others."""

    @property
    def pod(self) -> str | None:
        """Of pods."""

    @property
    def container(self) -> str | None:
        """Of containers."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Of labels' values."""


def names(scope: Scope, origin: LogOrigin) -> bool:
    """Whether ``origin`` is one of those that ``scope`` is for."""
    pairs = (
        (scope.namespace, origin.namespace),
        (scope.pod, origin.pod),
        (scope.container, origin.container),
    )
    if any(pattern is not None and not fnmatchcase(name, pattern) for pattern, name in pairs):
        return False
    return all(
        key in origin.labels and fnmatchcase(origin.labels[key], pattern)
        for key, pattern in scope.labels.items()
    )


def begins_of(patterns: Sequence[PatternConfig], origin: LogOrigin) -> re.Pattern[str] | None:
    """Where records of ``origin`` begin, by the first pattern that is for it."""
    return next((checked_pattern(one.begins, "begins") for one in patterns if names(one, origin)), None)


def steps_for(rules: Sequence[Rule], origin: LogOrigin, random: Random) -> list[Step]:
    """What is to be done with each record of ``origin``, in the order of the rules."""
    steps = []
    for rule in rules:
        if names(rule, origin) and (rule.unit is None or fnmatchcase(origin.unit, rule.unit)):
            steps.append(_step(rule, random))
    return steps


def _step(rule: Rule, random: Random) -> Step:
    """One rule, whose conditions on names hold, with the others before its action."""
    if isinstance(rule, KeepRule):
        return _keep(rule)
    matches = _matcher(rule)
    action = _action(rule, random)
    if matches is None:
        return action
    return lambda draft: action(draft) if matches(draft) else ""


def _keep(rule: KeepRule) -> Step:
    stream = rule.stream
    matches = _contents(rule)
    assert matches is not None

    def keep(draft: Draft) -> str:
        if stream is not None and draft.stream != stream:
            return ""
        return "" if matches(draft) else "rule"

    return keep


def _matcher(rule: RuleConfig) -> Callable[[Draft], bool] | None:
    """The conditions on a record; None where there are none."""
    stream, contents = rule.stream, _contents(rule)
    if stream is None:
        return contents
    if contents is None:
        return lambda draft: draft.stream == stream
    return lambda draft: draft.stream == stream and contents(draft)


def _contents(rule: RuleConfig) -> Callable[[Draft], bool] | None:
    severities = frozenset(rule.severity)
    body = None if rule.body is None else checked_pattern(rule.body, "body")
    if body is None:
        return (lambda draft: draft.severity in severities) if severities else None
    if not severities:
        return lambda draft: body.search(draft.body) is not None
    return lambda draft: draft.severity in severities and body.search(draft.body) is not None


def _action(rule: Rule, random: Random) -> Step:
    match rule:
        case DropRule() | KeepRule():
            return lambda draft: "rule"
        case SampleRule():
            one_in = rule.one_in
            return lambda draft: "" if random.randrange(one_in) == 0 else "sampling"
        case RedactRule():
            return _redact(redaction(rule.pattern), rule.replacement)
        case SeverityRule():
            return _set_severity(rule.to)


def _set_severity(severity: Severity) -> Step:
    def set_it(draft: Draft) -> str:
        draft.severity = severity
        return ""

    return set_it


def _redact(pattern: re.Pattern[str], replacement: str) -> Step:
    def redact(draft: Draft) -> str:
        draft.body = pattern.sub(replacement, draft.body)
        if draft.fields:
            draft.fields = {
                key: _redacted(value, pattern, replacement) for key, value in draft.fields.items()
            }
        return ""

    return redact


def _redacted(value: Any, pattern: re.Pattern[str], replacement: str) -> Any:
    """The value with every text in it redacted; names of fields are left, as are numbers."""
    if isinstance(value, str):
        return pattern.sub(replacement, value)
    if isinstance(value, dict):
        return {key: _redacted(one, pattern, replacement) for key, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one, pattern, replacement) for one in value]
    return value
