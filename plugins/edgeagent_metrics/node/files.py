"""Files: the kernel's small files, read from wherever the file system begins."""

import os

MOST_BYTES = 1 << 20
"""No file that is read here is longer, unless something is wrong."""
HALF_A_PAGE = 2048
"""A page that the kernel leaves half empty is the last: no line of these files is so long."""


class Files:
    """``root``: where the file system begins, without a slash at its end. Paths begin with one."""

    def __init__(self, root: str = "") -> None:
        self.root = root.rstrip("/")

    def read(self, path: str) -> str:
        """The text of a file; OSError where there is none."""
        descriptor = os.open(self.root + path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            data = part = os.read(descriptor, 1 << 16)
            while len(part) >= HALF_A_PAGE and (part := os.read(descriptor, 1 << 16)):
                data += part
                if len(data) > MOST_BYTES:
                    raise OSError(f"{path} is too long")
        finally:
            os.close(descriptor)
        return data.decode("utf-8", "replace")

    def optional(self, path: str) -> str:
        """The text of a file, empty where it cannot be read."""
        try:
            return self.read(path)
        except OSError:
            return ""

    def number(self, path: str) -> int | None:
        """The whole number in a file; None where there is none."""
        return whole(self.optional(path).strip())

    def names(self, path: str) -> list[str]:
        """What is in a folder, sorted; nothing where there is none."""
        try:
            return sorted(os.listdir(self.root + path))
        except OSError:
            return []


def whole(text: str) -> int | None:
    """The number that ``text`` is, None where it is none."""
    try:
        return int(text)
    except ValueError:
        return None
