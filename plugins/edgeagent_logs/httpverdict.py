"""What the status of an answer means, where all APIs mean the same."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_logs.httpendpoint import HttpAnswer, HttpEndpoint
from edgeagent_logs.shipment import TooLargeError

MAX_DELAY_SECONDS = 3600.0
_LATER = frozenset({408, 425, 429})


def retry_after(answer: HttpAnswer, now: Callable[[], float] = time.time) -> float | None:
    """Seconds by the header Retry-After (RFC 9110, 10.2.3), an hour at most; None where it says nothing."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:9]), MAX_DELAY_SECONDS)
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(moment - now(), 0.0), MAX_DELAY_SECONDS)


def check_status(endpoint: HttpEndpoint, answer: HttpAnswer) -> None:
    """Return where the request was taken (2xx).

    Raises TooLargeError (413), TemporaryError (408, 425, 429, all of 5xx), PermanentError for all else: a
    redirect is not followed, for that would hand credentials to whoever is named.
    """
    status = answer.status
    if 200 <= status < 300:
        return
    text = f"{endpoint.where}: {status}: {endpoint.shown(answer.body) or 'no reason given'}"
    if status == 413:
        raise TooLargeError(text)
    if status in _LATER or status >= 500:
        reason = "TooManyRequests" if status == 429 else "Unavailable"
        raise TemporaryError(text, delay=retry_after(answer), reason=reason)
    if 300 <= status < 400:
        target = endpoint.shown(answer.headers.get("location", "nowhere"))
        text = f"{endpoint.where}: {status}: redirected to {target}, which is not followed: set url to it"
    elif status in (401, 403, 407):
        text = f"{text} (who this node is, is not accepted: see the sink's credentials)"
    raise PermanentError(text, reason="Refused")
