"""MetricBlock: gatherings of a node's metrics as bytes, on its disk and on ``nodes/<node>/metrics``.

A head that is read without unpacking anything, and zlib of a MessagePack array: every string once; families
and series as numbers of strings; of each series a bit for each gathering that it is in, and its values, each
as the bits in which it differs from the one before. The bytes of the numbers are sorted by their weight, so
that the many that are zero stand together.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from operator import xor
from typing import Annotated, NamedTuple, cast, get_args

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.metrics import FamilyHead, MetricType, SampleBatch, Series

VERSION = 1
MAX_PLAIN_BYTES = 16_000_000
"""What a block may be unpacked to."""
MAX_TEXT = 32_000_000
"""The characters of all names, help texts and labels, a string that is packed once counted wherever it is."""
MAX_GATHERINGS = 4096
MAX_LABELS = 64
MAX_STREAM = 64
_TYPES = frozenset(get_args(MetricType))
_head = struct.Struct("<BIqHH")
_LEVEL = 6


class Moment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """When all collectors were asked: ``sequence`` counts in the stream, ``time`` is in milliseconds."""

    sequence: int
    time: int


class MetricBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Gatherings ``first`` to ``first + count - 1`` of ``stream``, a name that a start of an agent chooses.

    ``moments`` are those of which values are left, their times rise. ``step`` is in milliseconds: of each
    step the last values are here, 0 where nothing was left out. A block too large for one message comes as
    several ``parts``, with some of the series each.
    """

    stream: str
    first: int
    count: int
    moments: list[Moment]
    batch: SampleBatch
    step: int = 0
    part: int = 0
    parts: int = 1

    @property
    def next(self) -> int:
        """The sequence after the last."""
        return self.first + self.count


class BlockHead(NamedTuple):
    """``newest`` is the time of the last moment, in milliseconds; the others are as in the block."""

    step: int
    newest: int
    part: int
    parts: int


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    stream: Annotated[str, msgspec.Meta(max_length=MAX_STREAM)]
    first: Annotated[int, msgspec.Meta(ge=0)]
    count: Annotated[int, msgspec.Meta(ge=1)]
    moments: Annotated[list[Moment], msgspec.Meta(max_length=MAX_GATHERINGS)]
    strings: list[str]
    families: bytes
    series: bytes
    presence: bytes
    values: bytes


_decoder = msgspec.msgpack.Decoder(_Packed)


def encode_block(block: MetricBlock) -> bytes:
    """The block as bytes."""
    strings: dict[str, int] = {}
    columns = {gathering.time: place for place, gathering in enumerate(block.moments)}
    width, all_there = _width(len(columns)), (1 << len(columns)) - 1
    families, series, values = array("I"), array("I"), array("d")
    presence, complete = bytearray(), True

    def number(text: str) -> int:
        return strings.setdefault(text, len(strings))

    for family in block.batch.families:
        families.extend((number(family.name), number(family.type), number(family.help)))
    for one in block.batch.series:
        series.extend((one.family, number(one.suffix), len(one.labels)))
        for name, value in one.labels.items():
            series.extend((number(name), number(value)))
        there = sum(1 << columns[time] for time in one.times)
        complete = complete and there == all_there
        presence += there.to_bytes(width, "little")
        values.extend(one.values)
    packed = _Packed(
        block.stream, block.first, block.count, block.moments, list(strings),
        _spread(_bytes(families), 4), _spread(_bytes(series), 4), b"" if complete else bytes(presence),
        _spread(_bytes(_differences(values)), 8),
    )  # fmt: skip
    newest = block.moments[-1].time if block.moments else 0
    head = _head.pack(VERSION, block.step, newest, block.part, block.parts)
    return head + zlib.compress(msgspec.msgpack.encode(packed), _LEVEL)


def read_head(data: bytes) -> BlockHead:
    """The head of an encoded block; InvalidObjectError where it is of no version that is known."""
    if len(data) < _head.size or data[0] != VERSION:
        known = f"is of version {data[0]}" if data else "is empty"
        raise InvalidObjectError("block", f"{known}, version {VERSION} is known")
    _, *rest = _head.unpack_from(data)
    head = BlockHead(*rest)
    if head.part >= head.parts:
        raise InvalidObjectError("block", f"is part {head.part} of {head.parts}")
    return head


def decode_block(data: bytes, *, limit: int = MAX_PLAIN_BYTES) -> MetricBlock:
    """The inverse of ``encode_block``; InvalidObjectError for bytes that it never answers."""
    head = read_head(data)
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data[_head.size :], limit)
        if not stream.eof or stream.unused_data:
            raise InvalidObjectError("block", f"is cut short, or larger than {limit} bytes")
        packed = _decoder.decode(plain)
        families = _families(packed)
        batch = SampleBatch(families=families, series=_series(packed, families))
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, IndexError, ValueError) as error:
        raise InvalidObjectError("block", f"cannot be read: {error}") from None
    return MetricBlock(
        stream=packed.stream, first=packed.first, count=packed.count, moments=packed.moments,
        batch=batch, step=head.step, part=head.part, parts=head.parts,
    )  # fmt: skip


def _families(packed: _Packed) -> list[FamilyHead]:
    numbers = _numbers(packed.families)
    if len(numbers) % 3:
        raise InvalidObjectError("families", "are not whole")
    found, text = [], 0
    for place in range(0, len(numbers), 3):
        name, kind, help_text = (packed.strings[number] for number in numbers[place : place + 3])
        if kind not in _TYPES:
            raise InvalidObjectError("families", f"{kind[:40]!r} is no type")
        if (text := text + len(name) + len(help_text)) > MAX_TEXT:
            raise InvalidObjectError("families", f"are more than {MAX_TEXT} characters")
        found.append(FamilyHead(name, cast(MetricType, kind), help_text))
    return found


def _series(packed: _Packed, families: Sequence[FamilyHead]) -> list[Series]:
    """Every number is held against what it may be before it is used."""
    times = [one.time for one in packed.moments]
    sequences = [one.sequence for one in packed.moments]
    if not _rise(times) or not _rise(sequences):
        raise InvalidObjectError("gatherings", "are not in order")
    if sequences and not packed.first <= sequences[0] <= sequences[-1] < packed.first + packed.count:
        raise InvalidObjectError("gatherings", "are outside of the block")
    values = _values(packed.values)
    width, start, found = _width(len(times)), 0, []
    for place, (family, suffix, labels) in enumerate(_heads(packed, families)):
        if packed.presence:
            there = packed.presence[place * width : (place + 1) * width]
            if len(there) != width or int.from_bytes(there, "little") >> len(times):
                raise InvalidObjectError(f"series[{place}]", "is in gatherings that are not there")
            bits = int.from_bytes(there, "little")
            own = [time for column, time in enumerate(times) if bits >> column & 1]
        else:
            own = times
        end = start + len(own)
        if not own or end > len(values):
            raise InvalidObjectError(f"series[{place}]", "has too few values")
        found.append(Series(family, labels, own, values[start:end], suffix))
        start = end
    if start != len(values) or (packed.presence and len(packed.presence) != width * len(found)):
        raise InvalidObjectError("values", "are more than there are series for")
    return found


def _heads(packed: _Packed, families: Sequence[FamilyHead]) -> Iterator[tuple[int, str, dict[str, str]]]:
    numbers, strings, place, text = _numbers(packed.series), packed.strings, 0, 0
    while place < len(numbers):
        family, suffix, count = numbers[place : place + 3]
        pairs = numbers[place + 3 : place + 3 + 2 * count]
        if family >= len(families) or count > MAX_LABELS or len(pairs) != 2 * count:
            raise InvalidObjectError("series", "are not whole")
        texts = [strings[number] for number in pairs]
        text += len(families[family].name) + len(strings[suffix]) + sum(map(len, texts))
        if text > MAX_TEXT:
            raise InvalidObjectError("series", f"are more than {MAX_TEXT} characters")
        yield family, strings[suffix], dict(zip(texts[::2], texts[1::2], strict=True))
        place += 3 + 2 * count


def _width(columns: int) -> int:
    return (columns + 7) // 8


def _rise(numbers: Sequence[int]) -> bool:
    return all(before < after for before, after in pairwise(numbers))


def _differences(values: "array[float]") -> "array[int]":
    bits = array("Q", values.tobytes())
    return array("Q", map(xor, bits, [0, *bits[:-1]]))


def _values(packed: bytes) -> list[float]:
    differences = array("Q", _gathered(packed, 8))
    if sys.byteorder == "big":
        differences.byteswap()
    return array("d", array("Q", accumulate(differences, xor)).tobytes()).tolist()


def _numbers(packed: bytes) -> "array[int]":
    numbers = array("I", _gathered(packed, 4))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _bytes(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _spread(data: bytes, width: int) -> bytes:
    """All first bytes of the numbers, then all second ones, and so on."""
    return b"".join(data[place::width] for place in range(width))


def _gathered(data: bytes, width: int) -> bytes:
    """The inverse of ``_spread``; ValueError where ``data`` is no whole count of numbers."""
    count, rest = divmod(len(data), width)
    if rest:
        raise ValueError(f"{len(data)} bytes are no whole count of numbers")
    found = bytearray(len(data))
    for place in range(width):
        found[place::width] = data[place * count : (place + 1) * count]
    return bytes(found)
