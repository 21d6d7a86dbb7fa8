"""Podman's answers: what their failures are called here, and how names go into a request's path."""

from urllib.parse import quote

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_podman.spec import ErrorModel


class Answer(msgspec.Struct, frozen=True):
    """What Podman answered: any status, the whole body, and the version from its header.

    ``socket`` is the path of the socket that it came from.
    """

    status: int
    body: bytes
    version: str = ""
    socket: str = ""

    @property
    def ok(self) -> bool:
        """Whether the status is one of success, or "nothing to do"."""
        return self.status < 400

    def error(self) -> ErrorModel:
        """The error that the body tells of; its first text where it is not in Podman's form."""
        try:
            model = msgspec.json.decode(self.body, type=ErrorModel)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            model = ErrorModel()
        text = self.body[:200].decode("utf-8", "replace").strip()
        return model if model.message else ErrorModel(model.cause, model.cause or text or "no reason given")


def segment(text: str, what: str) -> str:
    """``text`` as one segment of a path; PermanentError where it is empty, ``what`` it should name."""
    if not text:
        raise PermanentError(f"no {what} was named", reason="InvalidArgument")
    return quote(text, safe="")


def failure(what: str, answer: Answer) -> TemporaryError:
    """The error for an answer that nothing more is known of."""
    where = f"Podman on {answer.socket}" if answer.socket else "Podman"
    problem = f"{where} could not {what}: {answer.error().message} (status {answer.status})"
    return TemporaryError(problem, reason="RuntimeError")


def gone(container_id: str) -> PermanentError:
    """The error for a container that must be there and is not."""
    return PermanentError(f"there is no container {container_id[:12]} any more", reason="ContainerNotFound")


def not_running(container_id: str) -> TemporaryError:
    """The error for a container that must run and does not."""
    problem = f"container {container_id[:12]} does not run"
    return TemporaryError(problem, reason="ContainerNotRunning")
