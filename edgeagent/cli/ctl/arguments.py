"""Readers of single words of the command line; each raises ArgumentTypeError."""

import argparse
import re

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_LABEL_PAIR = re.compile(r"(?P<key>[^\s=!,()]+)\s*==?\s*(?P<value>[^\s=!,()]*)")


def parse_duration(text: str) -> float:
    """``90``, ``10s``, ``1m30s`` or ``2h`` in seconds."""
    if text.isascii() and text.isdecimal():
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration (such as 10s or 1m30s)")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_selector(text: str) -> dict[str, str]:
    """``app=web,tier==front`` as a mapping; any other selector is refused."""
    labels: dict[str, str] = {}
    for part in text.split(","):
        match = _LABEL_PAIR.fullmatch(part.strip())
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not KEY=VALUE (other selectors are not known here)"
            )
        if labels.setdefault(match["key"], match["value"]) != match["value"]:
            raise argparse.ArgumentTypeError(f"{match['key']!r} cannot equal two values")
    return labels


def parse_boolean(text: str) -> bool:
    """``true`` or ``false``."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def parse_grace(text: str) -> int:
    """A whole number of seconds."""
    if not (text.isascii() and text.isdecimal()) or int(text) > 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)


def parse_tail(text: str) -> int | None:
    """A number of lines; None, for all of them, where it is -1."""
    if text == "-1":
        return None
    return parse_grace(text)


def parse_rows(text: str) -> int:
    """``--tail`` of a list: how many rows."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:6]) <= 2000:
        raise argparse.ArgumentTypeError("expected a number from 1 to 2000")
    return int(text)
