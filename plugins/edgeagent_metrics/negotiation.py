"""What a client wants: the format, whether compressed, and how long it waits. Pure.

RFC 9110, 12.5; https://prometheus.io/docs/instrumenting/content_negotiation/
"""

from edgeagent_metrics.exposition import Format

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
USUAL_SECONDS = 10.0
MOST_SECONDS = 60.0
MARGIN_SECONDS = 0.5
"""Of its time-out, what a client gets for all that is not collecting."""


def wanted_format(accept: str) -> Format:
    """OpenMetrics for who prefers it to plain text in a version that we speak, else text."""
    qualities = {"text": 0.0, "openmetrics": 0.0}
    for choice in accept.split(","):
        media, *parameters = [part.strip() for part in choice.split(";")]
        named = {
            name.strip().lower(): value.strip().strip('"')
            for name, _, value in (parameter.partition("=") for parameter in parameters)
        }
        quality = _quality(named.get("q", ""))
        if media.lower() == "application/openmetrics-text":
            if named.get("version", "1.0.0") in ("1.0.0", "0.0.1"):
                qualities["openmetrics"] = max(qualities["openmetrics"], quality)
        elif media.lower() in ("text/plain", "text/*"):
            qualities["text"] = max(qualities["text"], quality)
    return "openmetrics" if qualities["openmetrics"] > qualities["text"] else "text"


def wants_gzip(accept_encoding: str) -> bool:
    """Whether the answer may be compressed."""
    for choice in accept_encoding.split(","):
        coding, _, parameter = choice.partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip"):
            return _quality(parameter.strip().removeprefix("q=")) > 0
    return False


def patience(header: str) -> float:
    """How many seconds collecting may take: what the client waits, less a margin."""
    try:
        seconds = float(header)
    except ValueError:
        return USUAL_SECONDS
    if not 0 < seconds <= MOST_SECONDS:
        seconds = USUAL_SECONDS if not seconds > 0 else MOST_SECONDS
    return max(seconds - MARGIN_SECONDS, seconds / 2)


def _quality(text: str) -> float:
    """Of 0 to 1; 1 where there is none."""
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 1.0
