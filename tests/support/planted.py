"""Finding planted values in files and messages, however they are packed."""

import base64
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

MAX_UNPACKED = 4_000_000
_STARTS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b\x08")


class Planted:
    """Values to be found: in clear, as base64 at any offset, as hexadecimal digits, and compressed."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._forms = {name: tuple(_forms(value)) for name, value in values.items()}

    def found_in(self, data: bytes) -> frozenset[str]:
        """The names of the values that are in ``data``."""
        found = self._plain(data)
        for unpacked in _unpacked(data):
            found |= self._plain(unpacked)
        return frozenset(found)

    def _plain(self, data: bytes) -> set[str]:
        return {name for name, forms in self._forms.items() if any(form in data for form in forms)}

    def found_below(self, *folders: Path) -> dict[Path, frozenset[str]]:
        """The files below that hold one, by path; what is mounted as a tmpfs is left out."""
        memory = list(tmpfs_mounts())
        found = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() or not path.is_file() or any(path.is_relative_to(one) for one in memory):
                    continue
                try:
                    data = path.read_bytes()
                except FileNotFoundError:
                    continue  # what runs still may remove files
                if names := self.found_in(data):
                    found[path] = names
        return found


def tmpfs_mounts() -> Iterator[Path]:
    """Where a tmpfs is mounted, but for /run, /tmp and the like as a whole."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        if after.split()[0] == "tmpfs" and point.count("/") > 2:
            yield Path(point)


def packings(value: bytes) -> Iterable[bytes]:
    """``value`` in each of the ways that it is looked for."""
    around = b'{"some":"' + value + b'"}' + bytes(range(50))
    yield from (value, value.hex().encode(), zlib.compress(around), b"..." + gzip.compress(around))
    yield from (base64.b64encode(b"x" * shift + value) for shift in range(3))


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    yield value.hex().encode()
    for shift in range(3):
        # Only the digits that depend on nothing but the value.
        encoded = base64.b64encode(bytes(shift) + value)
        yield encoded[4 if shift else 0 : (shift + len(value)) // 3 * 4]


def _unpacked(data: bytes) -> Iterator[bytes]:
    for start in _STARTS:
        at = data.find(start)
        while at >= 0:
            try:
                unpacked = zlib.decompressobj(wbits=47).decompress(data[at : at + MAX_UNPACKED], MAX_UNPACKED)
            except zlib.error:
                pass
            else:
                yield unpacked
            at = data.find(start, at + 1)
