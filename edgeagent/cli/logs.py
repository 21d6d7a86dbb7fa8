"""The log of a process: one line for a message, whatever is in it.

What brokers, devices and operators say stands in messages. It must neither begin a line of its own, which
would look like another message, nor reach a terminal as a control sequence.
"""

import logging


class LineFormatter(logging.Formatter):
    """As its base, with what is not printable escaped. Lines of a traceback after its first are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        """The traceback, a line for each of its lines."""
        first, *more = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join([escaped(first), *(f"  {escaped(line)}" for line in more)])


def configure(level: int, line: str) -> None:
    """Log to standard error from now on: ``line`` is a format of ``logging``'s."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(line))
    logging.basicConfig(level=level, handlers=[handler])


def escaped(text: str) -> str:
    """``text`` in one line, with Python's escapes for what is not printable."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
