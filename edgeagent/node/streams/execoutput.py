"""The output of a command as a runtime hands it over, taken apart: see ``ExecSession.framing``. Pure."""

from collections.abc import Iterator

from edgeagent.api.errors import TemporaryError
from edgeagent.wire.streamapi import STDERR, STDOUT

_HEADER_BYTES = 8
_STREAMS = {0: STDOUT, 1: STDOUT, 2: STDERR, 3: STDERR}
"""By the first byte of a header; 3 is an error of the runtime's own."""


class RawOutput:
    """A terminal's: all of it is ``stdout``."""

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The kind of channel and the bytes for it."""
        yield STDOUT, data


class MultiplexedOutput:
    """Frames of ``stdout`` and ``stderr``. A frame may be of any length: it is passed on as it comes."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._kind = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The kind of channel and the bytes for it; TemporaryError where they are no frames."""
        view = memoryview(data)
        while view:
            if self._left:
                payload, view = view[: self._left], view[self._left :]
                self._left -= len(payload)
                yield self._kind, bytes(payload)
                continue
            missing = _HEADER_BYTES - len(self._header)
            self._header += view[:missing]
            view = view[missing:]
            if len(self._header) == _HEADER_BYTES:
                self._begin(bytes(self._header))
                self._header.clear()

    def _begin(self, header: bytes) -> None:
        kind = _STREAMS.get(header[0])
        if kind is None or any(header[1:4]):
            raise TemporaryError("the output of the command is not in frames", reason="RuntimeError")
        self._kind = kind
        self._left = int.from_bytes(header[4:], "big")
