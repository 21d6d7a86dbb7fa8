"""YAML to JSON, in a process of its own: ``python -m edgeagent.node.static.child``.

Standard input and output are JSON. In: file name → text. Out: file name → ``{"documents": [[number, data],
…]}`` or ``{"error": text}``. What PyYAML takes of memory, and what a big document leaves behind in the
allocator (17 MB for one of 1.4 MB), ends with the process; the agent keeps none of it.
"""

import sys
from collections.abc import Mapping

import msgspec

from edgeagent.api.objects.decode import MAX_OBJECT_BYTES
from edgeagent.wire.jsonio import DocumentError
from edgeagent.wire.yamlio import read_documents


def main() -> int:
    """The program."""
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))
    return 0


def answer(request: bytes) -> bytes:
    """What is written for what was read."""
    return msgspec.json.encode(convert(msgspec.json.decode(request, type=dict[str, str])))


def convert(texts: Mapping[str, str]) -> dict[str, Mapping[str, object]]:
    """The documents, or the error, of each text."""
    return {name: _read(text.encode()) for name, text in texts.items()}


def _read(text: bytes) -> Mapping[str, object]:
    documents: list[tuple[int, msgspec.Raw]] = []
    try:
        for document in read_documents(text):
            documents.append((document.number, _encoded(document.number, document.data)))
    except DocumentError as error:
        return {"error": str(error)}
    return {"documents": documents}


def _encoded(number: int, data: object) -> msgspec.Raw:
    _check_unfolded(number, data)
    try:
        return msgspec.Raw(msgspec.json.encode(data))
    except (ValueError, OverflowError) as error:  # half of a surrogate pair, a number of too many digits
        raise DocumentError(number, f"holds what JSON cannot: {error}") from None


def _check_unfolded(number: int, data: object) -> None:
    """Refuse a document that a few long texts and many aliases would make larger than any object may be."""
    size = 0
    level = [data]
    while level:
        item = level.pop()
        match item:
            case dict():
                level += [*item.keys(), *item.values()]
            case list():
                level += item
            case str():
                size += len(item)
        if size > MAX_OBJECT_BYTES:
            raise DocumentError(number, f"more than {MAX_OBJECT_BYTES} bytes once its aliases are unfolded")


if __name__ == "__main__":
    sys.exit(main())
