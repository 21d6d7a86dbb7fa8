"""The errors that cross a boundary: one for "try again", one for "do not", anything else is a bug."""


class EdgeAgentError(Exception):
    """Base of the errors that edgeagent raises on purpose. ``str()`` is fit to show a person."""


class TemporaryError(EdgeAgentError):
    """The call may succeed later.

    ``delay`` is the least number of seconds to wait before the next try, or None to leave the
    waiting to the caller's own back-off. ``reason`` is a CamelCase word for a condition or event
    (``ImagePullBackOff``), empty where there is none.
    """

    def __init__(self, message: str, *, delay: float | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.delay = delay
        self.reason = reason


class PermanentError(EdgeAgentError):
    """The same call cannot succeed; something must change first. ``reason`` as in TemporaryError."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class InvalidObjectError(PermanentError):
    """Bytes or data are not the object they should be.

    ``path`` names the place as a person would write it (``spec.containers[0].image``), empty for the
    object as a whole; ``problem`` says what is wrong there.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem, reason="InvalidObject")
        self.path = path
        self.problem = problem

    def within(self, prefix: str) -> "InvalidObjectError":
        """The same error seen from an outer object: ``prefix`` is put before the path."""
        joined = prefix + ("" if not self.path or self.path.startswith("[") else ".") + self.path
        return InvalidObjectError(joined, self.problem)
