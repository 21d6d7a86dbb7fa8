"""``[[plugins.logs.rules]]``: what is done with which records. Applied in the order of the file.

A rule is for records that all of its conditions match; one without conditions is for all. Regular
expressions are Python's (https://docs.python.org/3/library/re.html#regular-expression-syntax), searched for
anywhere in the body. They are as fast as they are written: a body is bounded by ``max_line_bytes``, and an
expression that repeats what repeats, like ``(a+)+``, is refused, for it can take hours on one line.
"""

import re
from typing import Annotated, Literal

import msgspec

from edgeagent.api.logs import Severity
from edgeagent.api.plugin import PluginConfig
from edgeagent_logs.patterns import checked_pattern, redaction

MAX_RULES = 200
Glob = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
"""A name, in which ``*`` and ``?`` stand for anything, as in fnmatch(3)."""
Regex = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class RuleConfig(PluginConfig, frozen=True, kw_only=True, tag_field="action"):
    """The conditions that all rules have; one that is not there matches everything.

    ``namespace``, ``pod``, ``container``, ``unit`` and the values of ``labels`` are patterns for the whole
    name; ``body`` is a regular expression; ``severity`` lists severities, ``""`` for a record that has none.
    """

    namespace: Glob | None = None
    pod: Glob | None = None
    container: Glob | None = None
    unit: Glob | None = None
    labels: dict[str, Glob] = {}
    stream: Literal["stdout", "stderr", "journal"] | None = None
    severity: list[Severity] = []
    body: Regex | None = None

    def __post_init__(self) -> None:
        if self.body is not None:
            checked_pattern(self.body, "body")


class DropRule(RuleConfig, frozen=True, kw_only=True, tag="drop"):
    """Leave them out."""


class KeepRule(RuleConfig, frozen=True, kw_only=True, tag="keep"):
    """Of the named containers' and units' records, leave out those that severity or body do not match."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.severity and self.body is None:
            raise ValueError("severity or body is required: what is to be kept")


class SampleRule(RuleConfig, frozen=True, kw_only=True, tag="sample"):
    """Let one of ``one_in`` through, by chance."""

    one_in: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)]


class RedactRule(RuleConfig, frozen=True, kw_only=True, tag="redact"):
    r"""Put ``replacement`` where ``pattern`` is found, in the body and in the values of parsed fields.

    ``pattern`` is a regular expression, or the name of a built-in one: ``credit-card``, ``bearer-token``,
    ``email``, ``password``. ``\1`` in the replacement is the first group.
    """

    pattern: Regex
    replacement: Annotated[str, msgspec.Meta(max_length=1000)] = "[redacted]"

    def __post_init__(self) -> None:
        super().__post_init__()
        pattern = redaction(self.pattern)
        try:
            pattern.sub(self.replacement, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"replacement: {error}") from None


class SeverityRule(RuleConfig, frozen=True, kw_only=True, tag="set-severity"):
    """Give them this severity."""

    to: Severity


Rule = DropRule | KeepRule | SampleRule | RedactRule | SeverityRule
