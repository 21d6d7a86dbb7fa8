"""``[plugins.logs]``: what is refused, and by which name."""

import tomllib
from pathlib import Path

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import convert
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.ruleconfig import RedactRule, SampleRule


def config(text: str) -> LogsConfig:
    return convert(tomllib.loads(text), LogsConfig)


def test_the_sample_is_the_default(checkout: Path) -> None:
    text = (checkout / "plugins" / "edgeagent_logs" / "sample.toml").read_text()
    section = tomllib.loads(text)["plugins"]["logs"]
    assert section.pop("enabled") is True
    assert convert(section, LogsConfig) == LogsConfig()


def test_rules_are_read_in_their_order() -> None:
    text = """
    [[rules]]
    action = "sample"
    one_in = 10
    labels = { app = "web-*" }
    [[rules]]
    action = "redact"
    pattern = "email"
    """
    assert config(text).rules == [
        SampleRule(one_in=10, labels={"app": "web-*"}),
        RedactRule(pattern="email"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\naction = 'drop'\nbody = '('", r"rules\[[0*]\]: body: no regular expression: missing \)"),
        ("[[rules]]\naction = 'drop'\nbody = '(a+)+$'", r"rules\[[0*]\]: body: a group that is repeated"),
        ("[[rules]]\naction = 'drop'\nbody = '((a|b)*c)*'", r"rules\[[0*]\]: body: a group that is repeated"),
        ("[[rules]]\naction = 'redact'\npattern = 'x*'", r"rules\[[0*]\]: pattern: matches the empty text"),
        ("[[rules]]\naction = 'redact'\npattern = 'x'\nreplacement = '\\2'", r"rules\[[0*]\]: replacement: "),
        ("[[rules]]\naction = 'keep'\npod = 'x'", r"rules\[[0*]\]: severity or body is required"),
        ("[[rules]]\naction = 'sample'\none_in = 1", r"rules\[[0*]\].one_in: expected int >= 2"),
        ("[[rules]]\naction = 'explode'", r"rules\[[0*]\].action: invalid value"),
        ("[[rules]]\naction = 'drop'\npods = 'x'", r"rules\[[0*]\].pods: unknown field"),
        ("[rate]\nlines_per_second = 0", r"rate.lines_per_second: expected int >= 1"),
        ("[[multiline.patterns]]\nbegins = '['", r"multiline.patterns\[[0*]\]: begins: no regular"),
        ("max_line_bytes = 1", "max_line_bytes: expected int >= 1024"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidObjectError, match=message):
        config(text)


@pytest.mark.parametrize(
    "pattern", [r"(\d++\.)+x", r"(?:ab)+", r"[(a+)+]+", r"\(a+\)+", "(a{1,3})+", "(a+|b)c+"]
)
def test_what_cannot_run_away_is_taken(pattern: str) -> None:
    assert config(f"[[rules]]\naction = 'drop'\nbody = '{pattern}'").rules
