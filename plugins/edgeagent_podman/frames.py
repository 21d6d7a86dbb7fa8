"""The output of an exec session as Podman sends it: frames of stdout and stderr, one stream of bytes.

A frame is a byte for the stream (0 to 3; 3 is an error of the sender's), three zeros, the payload's length
as a big-endian number of 32 bits, and the payload.
"""

from edgeagent.api.errors import TemporaryError

_HEADER_BYTES = 8
_LAST_STREAM = 3


class Output:
    """Payloads in the order they came, ``limit`` bytes of them; what goes beyond is dropped as it comes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._header = bytearray()
        self._left = 0

    def __bytes__(self) -> bytes:
        return bytes(self._kept)

    def feed(self, data: bytes) -> None:
        """Take the next bytes, however they were cut. TemporaryError where they are no frames."""
        view = memoryview(data)
        while view:
            if self._left:
                payload, view = view[: self._left], view[self._left :]
                self._left -= len(payload)
                self._kept += payload[: self._limit - len(self._kept)]
            else:
                missing = _HEADER_BYTES - len(self._header)
                self._header += view[:missing]
                view = view[missing:]
                if len(self._header) == _HEADER_BYTES:
                    self._begin()

    def _begin(self) -> None:
        stream, padding, length = self._header[0], self._header[1:4], self._header[4:]
        self._header = bytearray()
        if stream > _LAST_STREAM or any(padding):
            raise TemporaryError("Podman's answer to an exec is not in frames", reason="RuntimeUnavailable")
        self._left = int.from_bytes(length, "big")
