"""The types of the contract, read off the hook specifications: what a method takes and answers with."""

import inspect
from collections.abc import Mapping
from functools import cache
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from edgeagent.api import hookspecs
from edgeagent.node.plugins.faults import WrongAnswer

PLUGIN_INFO = "edgeagent_plugin_info"
CONFIG_SCHEMA = "edgeagent_config_schema"
RUNTIME = "edgeagent_container_runtime"
NETWORK = "edgeagent_network"
ADMISSION = "edgeagent_admission"
SECRETS = "edgeagent_secrets"
NODE_FACTS = "edgeagent_node_facts"
SERVICE = "edgeagent_service"
LOG_SOURCE = "edgeagent_log_source"
LOG_SINKS = "edgeagent_log_sinks"
COLLECTORS = "edgeagent_collectors"
EXPORTERS = "edgeagent_exporters"


class MethodTypes(NamedTuple):
    """``args`` without self, in order; ``result`` as ``get_type_hints`` gives it."""

    args: tuple[Any, ...]
    result: Any


@cache
def hook_names() -> frozenset[str]:
    """Every hook of the contract."""
    marker = f"{hookspecs.GROUP}_spec"
    return frozenset(name for name, value in vars(hookspecs).items() if hasattr(value, marker))


@cache
def method_types(hook: str, method: str) -> MethodTypes:
    """The types of ``method`` of the protocol that ``hook`` answers with. KeyError where there is none."""
    if hook not in hook_names():
        raise KeyError(f"no hook {hook}")
    protocol = get_type_hints(getattr(hookspecs, hook))["return"]
    function = vars(protocol).get(method)
    if not inspect.isfunction(function) or method.startswith("_"):
        raise KeyError(f"{protocol.__name__} has no method {method}")
    hints: Mapping[str, Any] = get_type_hints(function, include_extras=True)
    names = list(inspect.signature(function).parameters)[1:]
    return MethodTypes(tuple(hints[name] for name in names), hints["return"])


@cache
def args_decoder(hook: str, method: str) -> "msgspec.msgpack.Decoder[tuple[object, ...]]":
    """Decodes the arguments of a call."""
    return msgspec.msgpack.Decoder(GenericAlias(tuple, method_types(hook, method).args))


@cache
def result_decoder(hook: str, method: str) -> "msgspec.msgpack.Decoder[object]":
    """Decodes the answer of a call."""
    return msgspec.msgpack.Decoder(method_types(hook, method).result)


def check_answer(value: object, hook: str, method: str) -> None:
    """Raises WrongAnswer unless ``value`` is of the type that ``method`` promises.

    Structs are known by their class; what is in their fields is msgspec's matter where it is encoded.
    """
    expected = method_types(hook, method).result
    if not conforms(value, expected):
        raise WrongAnswer(f"{method} answered with {_shape(value)}, expected {_name(expected)}")


def conforms(value: object, hint: Any) -> bool:
    """Whether ``value`` is of the annotated type; TypeError for a form of annotation that no method uses."""
    origin = get_origin(hint)
    if origin is Annotated:
        return conforms(value, get_args(hint)[0])
    if origin in (Union, UnionType):
        return any(conforms(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is list:
        (item,) = get_args(hint)
        return isinstance(value, list) and all(conforms(one, item) for one in value)
    if origin is dict:
        key, item = get_args(hint)
        return isinstance(value, dict) and all(
            conforms(name, key) and conforms(one, item) for name, one in value.items()
        )
    if hint is None or hint is NoneType:
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(hint, type):
        return isinstance(value, hint)
    raise TypeError(f"the contract may not use the annotation {hint!r}")


def _name(hint: Any) -> str:
    if hint is NoneType:
        return "None"
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(_name(option) for option in get_args(hint))
    if get_origin(hint) is list:
        return f"list[{_name(get_args(hint)[0])}]"
    return getattr(hint, "__name__", str(hint))


def _shape(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, list):
        kinds = sorted({type(one).__name__ for one in value})
        return f"list[{' | '.join(kinds[:5])}]" if kinds else "list"
    return type(value).__name__
