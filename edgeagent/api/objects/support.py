"""What becomes of a field of Kubernetes: it works, it has no effect on one node, or it is refused by name.

The two that do not work are marked where they are declared, so that the table in ``docs/pod-support.md``
and what the node does cannot drift apart: a test holds one against the other.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

Support = Literal["works", "no-effect", "refused"]

NO_EFFECT = msgspec.Meta(extra={"support": "no-effect"})
"""Metadata of a field that is accepted and changes nothing on one node."""
REFUSED = msgspec.Meta(extra={"support": "refused"})
"""Metadata of a field that keeps the pod from being run."""

Refused = Annotated[object, REFUSED]
"""A field that is refused whatever it holds. Its default is None."""
NoEffect = Annotated[object, NO_EFFECT]
"""A field that is accepted whatever it holds."""


class Field(NamedTuple):
    """One field of a struct: ``name`` in Python, ``encoded`` as Kubernetes writes it."""

    name: str
    encoded: str
    support: Support


@cache
def fields_of(struct: type[msgspec.Struct]) -> tuple[Field, ...]:
    """All fields of a struct, in their order, with what becomes of them."""
    hints = get_type_hints(struct, include_extras=True)
    return tuple(
        Field(field.name, field.encode_name, _support(hints[field.name]))
        for field in msgspec.structs.fields(struct)
    )


def _support(hint: object) -> Support:
    if get_origin(hint) is Annotated:
        for item in get_args(hint)[1:]:
            if isinstance(item, msgspec.Meta) and item.extra and "support" in item.extra:
                support: Support = item.extra["support"]
                return support
    return "works"


def refused_fields(value: object, path: str = "") -> Iterator[str]:
    """The paths (``spec.volumes[0].nfs``) of all refused fields that are set below ``value``.

    An empty list or text is not set, as in Kubernetes; an empty mapping is: it may choose a volume's kind.
    """
    if isinstance(value, msgspec.Struct):
        for field in fields_of(type(value)):
            below = getattr(value, field.name)
            where = f"{path}.{field.encoded}" if path else field.encoded
            if field.support == "works":
                yield from refused_fields(below, where)
            elif field.support == "refused" and below not in (None, [], ""):
                yield where
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from refused_fields(item, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from refused_fields(item, f"{path}.{key}")
