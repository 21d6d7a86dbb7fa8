"""What stack traces look like, line by line: a small automaton for each language.

The languages' own printers decide the forms: Python's ``traceback``, Java's ``Throwable.printStackTrace``,
Go's runtime, .NET's ``Exception.ToString``, V8's ``Error.stack``. Of a language, one line begins a trace, and
each state says by which lines it goes on. A line that begins none costs some searches for plain words.
"""

import re
from collections.abc import Mapping, Sequence

from edgeagent_logs.config import Language

Steps = Sequence[tuple[re.Pattern[bytes], str]]


def _steps(*pairs: tuple[bytes, str]) -> Steps:
    return [(re.compile(pattern), state) for pattern, state in pairs]


_PYTHON_BEGIN = rb"Traceback \(most recent call last\)"
_AT = rb"[ \t]+(?:eval )?at |[ \t]+--- End of (?:inner|stack)|--- End of stack trace from previous"
_MORE = rb"[ \t]*\.\.\. \d+ (?:more|common frames omitted)|[ \t]*\[CIRCULAR REFERENCE"
_CAUSE = rb"[ \t]*(?:Caused by|Suppressed):|[ \t]*---> "
_GO = (
    rb"$|[ \t]|goroutine \d+ \[|created by |\[signal |\[recovered\]|panic: |runtime stack:|exit status \d+$"
    # Up to the first bracket after one letter: tried from each bracket, a hostile line would take minutes.
    rb"|\.\.\.additional frames"
    rb"|[\w./*()\[\]{}\-\xc2\xb7\xe2\x80\xa6,][\w./*)\[\]{}\-\xc2\xb7\xe2\x80\xa6,]*+\(.*\)$"
)

_BEGINS: Mapping[Language, Steps] = {
    "python": _steps((_PYTHON_BEGIN, "python"), (rb"[ \t]*\+ Exception Group Traceback", "python-group")),
    "go": _steps((rb"panic: |fatal error: |goroutine \d+ \[|.*http: panic serving ", "go")),
    "java": _steps((rb".*(?:Exception|Error|Throwable)(?::|$)", "frames")),
    "dotnet": _steps((rb".*Exception(?::|$)", "frames")),
    "node": _steps((rb".*Error(?::|$| \[)", "frames")),
}
_WORDS: Mapping[Language, Sequence[bytes]] = {
    "python": (b"Traceback (",),
    "go": (b"panic", b"goroutine ", b"fatal error: "),
    "java": (b"Exception", b"Error", b"Throwable"),
    "dotnet": (b"Exception",),
    "node": (b"Error",),
}
_NEXT: Mapping[str, Steps] = {
    # Frames are indented; the first line that is not names the exception. Chained ones follow an empty line.
    "python": _steps((rb"[ \t]|$", "python"), (rb".", "python-raised")),
    "python-raised": _steps(
        (rb"$", "python-raised"),
        (rb"During handling of the above|The above exception was", "python-raised"),
        (_PYTHON_BEGIN, "python"),
    ),
    "python-group": _steps((rb"[ \t]", "python-group")),
    "go": _steps((_GO, "go")),
    # Java, .NET and V8 share their frames, so that which of them it is need not be known.
    "frames": _steps((_AT, "frames"), (_MORE, "frames"), (_CAUSE, "frames")),
}


class TraceRules:
    """Which line begins a trace, and which goes on with it, for some languages."""

    def __init__(self, languages: Sequence[Language]) -> None:
        chosen = list(dict.fromkeys(languages))
        self.words = sorted({word for language in chosen for word in _WORDS[language]})
        self._begins = [step for language in chosen for step in _BEGINS[language]]

    def may_begin(self, data: bytes) -> bool:
        """Whether a trace could begin in ``data``, which may be many lines: quick, and mostly false."""
        return any(word in data for word in self.words)

    def begin(self, line: bytes) -> str | None:
        """The state after ``line``, where it begins a trace."""
        return _first(self._begins, line)

    def step(self, state: str, line: bytes) -> str | None:
        """The state after ``line``, where it goes on with the trace."""
        return _first(_NEXT[state], line)


class PatternRules:
    """Records of one's own kind: one begins at each line in which ``begins`` is found, and at no other."""

    def __init__(self, begins: re.Pattern[str]) -> None:
        self._begins = begins

    def may_begin(self, data: bytes) -> bool:
        """Every line may be the first of more."""
        return True

    def begin(self, line: bytes) -> str | None:
        """Lines before the first that matches are a record too."""
        return "pattern"

    def step(self, state: str, line: bytes) -> str | None:
        """Goes on until the next beginning."""
        return None if self._begins.search(line.decode("utf-8", "replace")) else state


JoinRules = TraceRules | PatternRules


def _first(steps: Steps, line: bytes) -> str | None:
    for pattern, state in steps:
        if pattern.match(line):
            return state
    return None
