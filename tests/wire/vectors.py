"""The committed examples of every format, tests/wire/vectors/*.json: bytes in hex, text as it is."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "vectors"


class Vector:
    """One file. ``vector["name"]`` is text, ``vector.raw("name")`` what is written there in hex."""

    def __init__(self, name: str) -> None:
        self.values: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())

    def __getitem__(self, name: str) -> str:
        return str(self.values[name])

    def raw(self, name: str) -> bytes:
        """A value in hex as bytes."""
        return bytes.fromhex(self[name])

    def raws(self, name: str) -> list[bytes]:
        """A list of values in hex."""
        return [bytes.fromhex(text) for text in self.values[name]]
