"""Regular expressions that a person wrote, held to what can be run on every line; and the built-in ones."""

import re

BUILT_IN = {
    "credit-card": (
        r"(?<![\d-])(?:\d{4}[ -]?){3}\d{1,7}(?![\d-])|(?<![\d-])3\d{3}[ -]?\d{6}[ -]?\d{4,5}(?![\d-])"
    ),
    # Begun where a word begins: a hostile line of tokens that do not end would take seconds otherwise.
    "bearer-token": (
        r"(?i:(?<=\bbearer )[\w.~+/=-]{8,}|(?<![\w-])(?:[\w-]{0,64}-)?eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*)"
    ),
    "email": r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
    "password": r"(?i)(?:(?<=password[=:])|(?<=passwd[=:])|(?<=secret[=:])|(?<=token[=:]))[^\s,;&\"']+",
}
"""What ``redact`` knows by name. They are for what is seen often: no such list finds everything."""


def checked_pattern(text: str, name: str) -> re.Pattern[str]:
    """``text`` compiled; ValueError, which says ``name``, for what is none, or could take for ever."""
    try:
        pattern = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{name}: no regular expression: {error}") from None
    if _repeats_repeated(text):
        problem = "a group that is repeated repeats something itself, which can take hours on one line"
        raise ValueError(f"{name}: {problem}: make the inner one possessive, as in (?:a++b)+")
    return pattern


def redaction(text: str) -> re.Pattern[str]:
    """The expression of a ``redact`` rule, by its name or as it is; ValueError as ``checked_pattern``."""
    if text in BUILT_IN:
        return re.compile(BUILT_IN[text])
    pattern = checked_pattern(text, "pattern")
    if pattern.search(""):
        names = ", ".join(BUILT_IN)
        raise ValueError(f"pattern: matches the empty text, so everywhere; built-in names are {names}")
    return pattern


_TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?#[^)]*\)|[()]|(?:[*+]|\{\d*,\d*\}|\{\d+\}|\?)[+?]?|.", re.S
)
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")


def _repeats_repeated(text: str) -> bool:
    """Whether a group that repeats something without bound is itself so repeated, neither possessively."""
    open_groups = [False]
    closed: bool | None = None  # whether the group that ended just now had a repetition in it
    for piece in _TOKEN.findall(text):
        repetition = bool(_UNBOUNDED.match(piece))
        if piece == "(":
            open_groups.append(False)
            closed = None
        elif piece == ")" and len(open_groups) > 1:
            closed = open_groups.pop()
            open_groups[-1] |= closed
        elif repetition and not piece.endswith("++") and piece != "*+":
            if closed:
                return True
            open_groups[-1] = True
            closed = None
        else:
            closed = None
    return False
