"""What can go wrong in a lane, as data that crosses a process boundary and as the errors callers see.

The rule of blame: an error that the plugin raised on purpose (TemporaryError, PermanentError) is an answer
about one object, and the plugin is well. A PluginFault is the plugin's own failure and counts against it:
any other exception, a call past its deadline, the death of its child, an answer of the wrong type, a
full lane. A LaneInterrupted call failed for something that another call, or a stop, is to blame for.
"""

import math
from typing import Literal

import msgspec

from edgeagent.api.errors import EdgeAgentError, PermanentError, TemporaryError

MAX_MESSAGE = 4096
MAX_TRACEBACK = 16384
MAX_DELAY_SECONDS = 3600.0
"""A plugin that asks for a longer pause gets this one."""


class PluginFault(TemporaryError):
    """The plugin itself failed; counts against it. Callers treat it as any TemporaryError."""


class LaneInterrupted(TemporaryError):
    """The lane ended under the call, which is not to blame. Counts for nothing."""


class WrongAnswer(Exception):
    """The plugin's code ran, and what it gave back is not what the contract says."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An error in transit. ``fault`` tells a PluginFault from an answer of kind temporary or permanent."""

    kind: Literal["temporary", "permanent", "fault"]
    message: str
    reason: str = ""
    delay: float | None = None
    traceback: str = ""


def failure_of(error: BaseException) -> Failure:
    """What ``error``, raised by plugin code, is to be told as."""
    message = _text(error)
    if isinstance(error, WrongAnswer):
        return Failure("fault", message, "WrongAnswer")
    if isinstance(error, EdgeAgentError):
        reason = getattr(error, "reason", "")
        reason = reason[:MAX_MESSAGE] if isinstance(reason, str) else ""
        if isinstance(error, PermanentError):
            return Failure("permanent", message, reason)
        return Failure("temporary", message, reason, _delay(getattr(error, "delay", None)))
    import traceback

    lines = "".join(traceback.format_exception(error))
    name = type(error).__qualname__
    text = f"{name}: {message}" if message else name
    return Failure("fault", text, "PluginError", None, lines[-MAX_TRACEBACK:])


def error_of(failure: Failure) -> TemporaryError | PermanentError:
    """The error that the caller gets."""
    if failure.kind == "permanent":
        return PermanentError(failure.message, reason=failure.reason)
    if failure.kind == "temporary":
        return TemporaryError(failure.message, delay=failure.delay, reason=failure.reason)
    return PluginFault(failure.message, reason=failure.reason)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as broken:  # its own __str__ is plugin code as well
        text = f"(cannot be shown: {type(broken).__qualname__})"
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot cross a process boundary
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…"


def _delay(delay: object) -> float | None:
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not math.isfinite(delay):
        return None
    return min(max(float(delay), 0.0), MAX_DELAY_SECONDS)
