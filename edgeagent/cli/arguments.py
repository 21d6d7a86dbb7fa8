"""Readers of single words of the command line; each raises ArgumentTypeError."""

import argparse
import ipaddress
import re

from edgeagent.cli.resources import UnknownKindError, find_resource

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
    return _whole(text, "seconds")


def parse_tail(text: str) -> int:
    """A number of lines; -1 for all of them."""
    return -1 if text == "-1" else _whole(text, "lines")


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 11) or int(text) > 2**31:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no number of {what}")
    return int(text)


def parse_rows(text: str) -> int:
    """``--tail`` of a list: how many rows."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:6]) <= 2000:
        raise argparse.ArgumentTypeError("expected a number from 1 to 2000")
    return int(text)


def parse_time(text: str) -> float:
    """A point in time as RFC 3339 has it, in seconds since the epoch."""
    from edgeagent.api.clock import parse_rfc3339

    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time (such as 2026-01-31T08:00:00Z)") from None


def parse_about(text: str) -> tuple[str, str]:
    """``pod/web`` as kind and name: (``Pod``, ``web``)."""
    word, slash, name = text.partition("/")
    if not (word and slash and name) or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND/NAME, such as pod/web")
    try:
        return find_resource(word).kind, name
    except UnknownKindError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_types(text: str) -> frozenset[str]:
    """``Warning``, ``Normal`` or both, in any case."""
    known = {"warning": "Warning", "normal": "Normal"}
    wanted = [known.get(word.strip().lower(), "") for word in text.split(",")]
    if not all(wanted):
        raise argparse.ArgumentTypeError(f"{text!r}: valid --types are Normal or Warning")
    return frozenset(wanted)


def parse_addresses(text: str) -> list[str]:
    """``localhost``, or addresses, with commas between them."""
    found = [word.strip() for word in text.split(",")]
    for word in found:
        if word == "localhost":
            continue
        try:
            ipaddress.ip_address(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r} is no address (nor localhost)") from None
    return found


def parse_count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:9]) < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
