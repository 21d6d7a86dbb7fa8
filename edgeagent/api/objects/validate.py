"""The rules for objects that types alone cannot state, in Kubernetes' own terms.

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

import re
from collections.abc import Iterable

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.container import Container, EnvVar, ResourceRequirements
from edgeagent.api.objects.pod import Pod
from edgeagent.api.quantity import parse_quantity

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)
MAX_GRACE_SECONDS = 2**31 - 1


def validate_name(name: str, path: str) -> None:
    """A DNS-1123 subdomain of at most 253 characters, which is what names most objects."""
    if not name:
        raise InvalidObjectError(path, "required field is missing")
    if len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        raise InvalidObjectError(
            path,
            f"{name[:80]!r} must be lower-case letters, digits, '-' or '.',"
            " and start and end with a letter or digit",
        )


def validate_label(name: str, path: str) -> None:
    """A DNS-1123 label of at most 63 characters: container names, namespaces, node names."""
    if not name:
        raise InvalidObjectError(path, "required field is missing")
    if len(name) > 63 or not _LABEL.fullmatch(name):
        raise InvalidObjectError(
            path,
            f"{name[:80]!r} must be lower-case letters, digits or '-', at most 63,"
            " and start and end with a letter or digit",
        )


def validate_pod(pod: Pod) -> None:
    """Raises InvalidObjectError at the first rule that ``pod`` breaks."""
    spec = pod.spec
    if spec.node_name:
        validate_label(spec.node_name, "spec.nodeName")
    if not spec.containers:
        raise InvalidObjectError("spec.containers", "at least one container is required")
    if not 0 <= spec.termination_grace_period_seconds <= MAX_GRACE_SECONDS:
        raise InvalidObjectError(
            "spec.terminationGracePeriodSeconds", f"must be between 0 and {MAX_GRACE_SECONDS}"
        )
    _unique([c.name for c in spec.containers], "spec.containers", "name")
    for index, container in enumerate(spec.containers):
        _validate_container(container, f"spec.containers[{index}]", host_network=spec.host_network)


def _validate_container(container: Container, path: str, *, host_network: bool) -> None:
    validate_label(container.name, f"{path}.name")
    if not container.image.strip() or any(c.isspace() for c in container.image):
        raise InvalidObjectError(f"{path}.image", "must be an image reference without spaces")
    if container.working_dir and not container.working_dir.startswith("/"):
        raise InvalidObjectError(f"{path}.workingDir", "must be an absolute path")
    for index, port in enumerate(container.ports):
        for name, number in (("containerPort", port.container_port), ("hostPort", port.host_port or 1)):
            if not 1 <= number <= 65535:
                raise InvalidObjectError(f"{path}.ports[{index}].{name}", "must be between 1 and 65535")
        if port.host_port and host_network and port.host_port != port.container_port:
            raise InvalidObjectError(
                f"{path}.ports[{index}].hostPort", "must equal containerPort where spec.hostNetwork is true"
            )
    for index, variable in enumerate(container.env):
        _validate_env(variable, f"{path}.env[{index}]")
    for index, source in enumerate(container.env_from):
        if (source.config_map_ref is None) == (source.secret_ref is None):
            raise InvalidObjectError(f"{path}.envFrom[{index}]", "set one of configMapRef and secretRef")
    _validate_resources(container.resources, f"{path}.resources")


def _validate_env(variable: EnvVar, path: str) -> None:
    if not variable.name or "=" in variable.name or "\0" in variable.name:
        raise InvalidObjectError(f"{path}.name", "must be a variable name without '='")
    if (source := variable.value_from) is not None:
        if variable.value:
            raise InvalidObjectError(f"{path}.valueFrom", "may not be set together with value")
        if (source.config_map_key_ref is None) == (source.secret_key_ref is None):
            raise InvalidObjectError(f"{path}.valueFrom", "set one of configMapKeyRef and secretKeyRef")


def _validate_resources(resources: ResourceRequirements, path: str) -> None:
    amounts: dict[str, dict[str, float]] = {}
    for side, values in (("limits", resources.limits), ("requests", resources.requests)):
        for name, text in values.items():
            try:
                amounts.setdefault(name, {})[side] = parse_quantity(text)
            except ValueError as error:
                raise InvalidObjectError(f"{path}.{side}.{name}", str(error)) from None
    for name, sides in amounts.items():
        if sides.get("requests", 0) > sides.get("limits", float("inf")):
            raise InvalidObjectError(f"{path}.requests.{name}", "must not be more than the limit")


def validate_config_map(config_map: ConfigMap) -> None:
    """Keys are file names; a key stands in ``data`` or ``binaryData``, not in both."""
    _data_keys(config_map.data, "data")
    _data_keys(config_map.binary_data, "binaryData")
    if twice := sorted(config_map.data.keys() & config_map.binary_data.keys()):
        raise InvalidObjectError(f"binaryData.{twice[0]}", "the key stands in data too")


def validate_secret(secret: Secret) -> None:
    """Keys are file names."""
    _data_keys(secret.data, "data")
    _data_keys(secret.string_data, "stringData")


def _data_keys(keys: Iterable[str], path: str) -> None:
    for key in keys:
        if len(key) > 253 or not _DATA_KEY.fullmatch(key) or key in (".", ".."):
            raise InvalidObjectError(f"{path}.{key[:80]}", "a key must be letters, digits, '-', '_' or '.'")


def _unique(names: list[str], path: str, field: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidObjectError(f"{path}[{index}].{field}", f"{name!r} is there twice")
