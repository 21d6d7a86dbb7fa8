"""Strict decoding: bytes or plain data in, a struct out, or an error that names the place."""

import re
from collections.abc import Mapping
from typing import TypeVar, get_args

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.config import ConfigMap, SealedSecret, Secret
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.network import HostFirewall, NodeNetwork, PodAddress
from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.policy import Namespace, NetworkPolicy
from edgeagent.api.objects.rbac import ClusterRoleBinding, RoleBinding
from edgeagent.api.objects.service import EndpointSlice, Service
from edgeagent.api.objects.trust import ClusterTrust
from edgeagent.api.objects.validate import (
    validate_config_map,
    validate_label,
    validate_name,
    validate_secret,
)
from edgeagent.api.objects.validate_network import (
    validate_host_firewall,
    validate_node_network,
    validate_pod_address,
)
from edgeagent.api.objects.validate_pod import validate_pod
from edgeagent.api.objects.validate_policy import validate_namespace, validate_network_policy
from edgeagent.api.objects.validate_rbac import validate_binding
from edgeagent.api.objects.validate_service import validate_endpoint_slice, validate_service
from edgeagent.api.objects.validate_trust import validate_cluster_trust

NetworkObject = Service | EndpointSlice | NetworkPolicy | Namespace | NodeNetwork | HostFirewall | PodAddress
SecurityObject = RoleBinding | ClusterRoleBinding | ClusterTrust
KubernetesObject = Pod | ConfigMap | Secret | SealedSecret | Node | Event | NetworkObject | SecurityObject

KINDS: Mapping[str, type[KubernetesObject]] = {kind.__name__: kind for kind in get_args(KubernetesObject)}
"""Every kind that can be decoded, by its ``kind``."""

MAX_OBJECT_BYTES = 1_500_000
"""The largest object, as etcd's default request limit has it in Kubernetes."""

_QUOTED = re.compile(r"""(?<=value) .*|^(['"]).*\1 (?=must be )""", re.DOTALL)
"""What an error quotes of the data: msgspec's ``invalid enum value 'v2'``, our ``'My Name' must be …``."""

T = TypeVar("T")

_AT = re.compile(r"^(?P<problem>.*?)(?: - at (?:`key` in )?`(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*)`$")


def to_invalid_object(error: Exception) -> InvalidObjectError:
    """The error a person can act on, from what msgspec raised (ValidationError, DecodeError, …)."""
    if isinstance(error, RecursionError):
        return InvalidObjectError("", "nested too deeply")
    match = _AT.match(str(error))
    problem, path = (match["problem"], match["path"] or "") if match else (str(error), "")
    path = path.replace("[...]", "[*]").removeprefix(".")
    for pattern, words in ((_UNKNOWN, "unknown field"), (_MISSING, "required field is missing")):
        if field := pattern.match(problem):
            return InvalidObjectError(f"{path}.{field[1]}" if path else field[1], words)
    problem = problem.replace("`", "")
    if not problem.startswith("JSON"):
        problem = problem[:1].lower() + problem[1:]
    return InvalidObjectError(path, problem)


def decode_json(data: bytes, kind: type[T], *, limit: int = MAX_OBJECT_BYTES) -> T:
    """Decode JSON ``data`` as ``kind``; raises InvalidObjectError, also where it exceeds ``limit`` bytes."""
    if len(data) > limit:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {limit} allowed")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise to_invalid_object(error) from None


def convert(data: object, kind: type[T]) -> T:
    """Plain data (of YAML or TOML) as ``kind``; raises InvalidObjectError."""
    try:
        return msgspec.convert(data, kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _with_choices(to_invalid_object(error), kind) from None


def _with_choices(error: InvalidObjectError, kind: type) -> InvalidObjectError:
    if not error.problem.startswith(("invalid value", "invalid enum value")):
        return error
    # Imported only now: few errors are of this kind, and nothing else needs it.
    from edgeagent.api.objects.choices import choices_at

    if not (allowed := choices_at(kind, error.path)):
        return error
    return InvalidObjectError(error.path, f"{error.problem}, expected one of {', '.join(allowed)}")


def decode_object(data: object) -> KubernetesObject:
    """One manifest (a mapping, as a YAML document gives it) as the validated object its ``kind`` names."""
    if not isinstance(data, Mapping):
        raise InvalidObjectError("", "expected a mapping with apiVersion, kind and metadata")
    kind = KINDS.get(_kind_name(data.get("kind")))
    if kind is None:
        raise InvalidObjectError("kind", f"unknown kind {data['kind']!r}, expected one of {', '.join(KINDS)}")
    try:
        return validate(convert(data, kind))
    except InvalidObjectError as error:
        raise _without_value(error, kind) from None


def _kind_name(kind: object) -> str:
    if kind is None:
        raise InvalidObjectError("kind", "required field is missing")
    if not isinstance(kind, str):
        raise InvalidObjectError("kind", "expected str")
    return kind


def decode_object_json(data: bytes) -> KubernetesObject:
    """One object from its JSON bytes; the same checks as ``decode_object``."""
    if len(data) > MAX_OBJECT_BYTES:
        raise InvalidObjectError("", f"{len(data)} bytes, more than the {MAX_OBJECT_BYTES} allowed")
    try:
        header = msgspec.json.decode(data, type=_Header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise to_invalid_object(error) from None
    if (kind := KINDS.get(header.kind)) is None:
        raise InvalidObjectError("kind", f"unknown kind {header.kind!r}, expected one of {', '.join(KINDS)}")
    try:
        return validate(decode_json(data, kind))
    except InvalidObjectError as error:
        raise _without_value(error, kind) from None


def _without_value(error: InvalidObjectError, kind: type[KubernetesObject]) -> InvalidObjectError:
    """What is wrong with a Secret, without what stands there: a value may have come into any field."""
    if kind is not Secret:
        return error
    return InvalidObjectError(error.path, _QUOTED.sub("", error.problem))


class _Header(msgspec.Struct):
    kind: str


def validate(candidate: KubernetesObject) -> KubernetesObject:
    """Check what types alone cannot: names, uniqueness, references. Returns the object itself."""
    validate_name(candidate.metadata.name, "metadata.name")
    if candidate.metadata.namespace:
        validate_label(candidate.metadata.namespace, "metadata.namespace")
    match candidate:
        case Pod():
            validate_pod(candidate)
        case ConfigMap():
            validate_config_map(candidate)
        case Secret():
            validate_secret(candidate)
        case Service():
            validate_service(candidate)
        case EndpointSlice():
            validate_endpoint_slice(candidate)
        case NetworkPolicy():
            validate_network_policy(candidate)
        case Namespace():
            validate_namespace(candidate)
        case NodeNetwork():
            validate_node_network(candidate)
        case HostFirewall():
            validate_host_firewall(candidate)
        case PodAddress():
            validate_pod_address(candidate)
        case RoleBinding() | ClusterRoleBinding():
            validate_binding(candidate)
        case ClusterTrust():
            validate_cluster_trust(candidate)
        case _:
            pass  # SealedSecret, Node and Event have no more rules
    return candidate
