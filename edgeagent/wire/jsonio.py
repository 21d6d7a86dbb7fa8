"""JSON text to plain data, bounded, doubled keys refused: what ``yamlio`` does for YAML, without PyYAML."""

import json

from edgeagent.api.errors import EdgeAgentError

MAX_DEPTH = 64
"""How deep mappings and sequences may be nested."""
MAX_VALUES = 100_000
"""How many values one document may hold; in YAML each alias counts as all that it stands for."""


class DocumentError(EdgeAgentError):
    """The text is not what it should be. ``document`` counts from 1; 0 where the whole text is meant."""

    def __init__(self, document: int, problem: str) -> None:
        super().__init__(f"document {document}: {problem}" if document else problem)
        self.document = document
        self.problem = problem


def read_json(text: str) -> object:
    """The data of one JSON text; raises DocumentError, or JSONDecodeError where it is no JSON at all.

    Half of a surrogate pair, which JSON can spell, is refused: it is no text that can be passed on.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise DocumentError(1, "nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # a number of more digits than Python converts
        raise DocumentError(1, str(error)) from None
    _check_data(data)
    return data


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise DocumentError(1, f"duplicate key {next(n for i, n in enumerate(names) if n in names[:i])!r}")
    return made


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DocumentError(1, "holds text that is no Unicode (half of a surrogate pair)") from None


def _no_constant(name: str) -> object:
    raise DocumentError(1, f"{name} is no JSON number")


def _check_data(data: object) -> None:
    level = [data]
    count = 0
    for depth in range(MAX_DEPTH + 2):
        if not level:
            return
        count += len(level)
        if count > MAX_VALUES:
            raise DocumentError(1, f"more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise DocumentError(1, f"nested more than {MAX_DEPTH} deep")
        for item in level:
            for text in item if isinstance(item, dict) else (item,):
                if isinstance(text, str):
                    _check_text(text)
        level = [
            value
            for item in level
            if isinstance(item, dict | list)
            for value in (item.values() if isinstance(item, dict) else item)
        ]
