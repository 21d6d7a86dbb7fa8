"""Positions: how far a container's log was read, as text that survives crashes, rotation and truncation.

A file is known by device and inode, and by a checksum of its beginning, for inodes are used again. One
offset is not enough: a stack trace on one stream may still be held while lines of the other went out, so that
reading begins anew at the earliest byte not yet handed out, and ``ahead`` says how far a stream has been.
"""

import msgspec

TURNED_OFF = "off"
"""The position of a container whose pod's annotation turned its log off: what it writes is never read."""


class FileIdentity(msgspec.Struct, frozen=True, array_like=True):
    """``checksum`` is the CRC-32 of the first ``length`` bytes."""

    device: int
    inode: int
    length: int
    checksum: int


class Ahead(msgspec.Struct, frozen=True, array_like=True):
    """A stream's own position. ``skipping``: what follows is the rest of a line that was cut."""

    device: int
    inode: int
    offset: int
    skipping: bool = False


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The next byte is at ``offset`` of ``file``; ``previous`` is the file that was read before it.

    ``written`` is when ``file`` was written to last (nanoseconds since the epoch): where both are gone, what
    is older was read. ``middle``: what is at ``offset`` is the rest of a line too long to be read.
    """

    file: FileIdentity
    offset: int
    middle: bool = False
    previous: FileIdentity | None = None
    written: int = 0
    ahead: dict[str, Ahead] = {}

    def text(self) -> str:
        """As the core keeps it."""
        return msgspec.json.encode(self).decode()


def parse_position(text: str) -> Position:
    """The inverse of ``text``; ValueError where it is none."""
    try:
        return msgspec.json.decode(text, type=Position)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise ValueError(f"no position of a log: {error}") from None
