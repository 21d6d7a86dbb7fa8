"""One line in the log for one message, whatever strangers put into it."""

import io
import logging
from pathlib import Path

import pytest

import edgeagent
from edgeagent.cli.logs import LineFormatter

FORMAT = "%(levelname)s %(name)s: %(message)s"


def logged(message: str, *arguments: object, error: BaseException | None = None) -> str:
    """What is written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter(FORMAT))
    record = logging.LogRecord(
        "hub", logging.WARNING, "", 0, message, arguments, (type(error), error, None) if error else None
    )
    handler.handle(record)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("gw-1\nERROR hub: node gw-2 was revoked", "gw-1\\nERROR hub: node gw-2 was revoked"),
        ("a\r\x1b[2Kb\x00\x9b1m\x7f", "a\\r\\x1b[2Kb\\x00\\x9b1m\\x7f"),
        ("a\u2028b\u202ec", "a\\u2028b\\u202ec"),
        ("Zähler\tµ \\n", "Zähler\\tµ \\n"),
        ("half \ud800", "half \\ud800"),
    ],
)
def test_what_a_stranger_says_makes_no_line_of_its_own(said: str, written: str) -> None:
    assert logged("%s calls in vain", said) == f"WARNING hub: {written} calls in vain\n"


def test_a_traceback_keeps_its_lines_and_what_is_in_it_is_escaped() -> None:
    text = logged("a bug", error=ValueError("one\x1b[0m\nERROR hub: two"))
    assert text == "WARNING hub: a bug\nValueError: one\\x1b[0m\n  ERROR hub: two\n"


def test_no_program_logs_in_another_way() -> None:
    root = Path(edgeagent.__file__).parent
    users = {path.name for path in root.rglob("*.py") if "basicConfig(" in path.read_text()}
    assert users == {"logs.py"}
