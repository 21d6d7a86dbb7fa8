"""Which values a field may have, read off the types: for the error about one that it may not have."""

import re

from msgspec import inspect

_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")


def choices_at(kind: type, path: str) -> list[str]:
    """The values allowed at ``path`` (``sinks[0].type``) of ``kind``; empty where no list has them."""
    found = [inspect.type_info(kind)]
    for step in _STEP.findall(path):
        found = [one for each in found for one in _into(each, step)]
    return [str(value) for one in found for value in _values(one) if value != ""]  # that is to leave it out


def _into(one: inspect.Type, step: str) -> list[inspect.Type]:
    if isinstance(one, inspect.Metadata):
        return _into(one.type, step)
    if isinstance(one, inspect.UnionType):
        return [inner for option in one.types for inner in _into(option, step)]
    if isinstance(one, inspect.ListType | inspect.SetType | inspect.VarTupleType):
        return [one.item_type]
    if isinstance(one, inspect.DictType):
        return [one.value_type]
    if isinstance(one, inspect.StructType):
        if step == one.tag_field:
            return [inspect.LiteralType((one.tag,))] if one.tag is not None else []
        return [field.type for field in one.fields if field.encode_name == step]
    return []


def _values(one: inspect.Type) -> list[object]:
    if isinstance(one, inspect.Metadata):
        return _values(one.type)
    if isinstance(one, inspect.UnionType):
        return [value for option in one.types for value in _values(option)]
    return list(one.values) if isinstance(one, inspect.LiteralType) else []
