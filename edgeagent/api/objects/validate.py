"""The rules for names, keys, paths and amounts that types alone cannot state, and for ConfigMap and Secret.

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
The rules for pods are in ``validate_pod`` and its neighbours.
"""

import ipaddress
import re
from collections.abc import Iterable

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.quantity import nano_quantity

MAX_INT32 = 2**31 - 1

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]+", re.ASCII)
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_VARIABLE = re.compile(r"[ -<>-~]+", re.ASCII)


def require(holds: bool, path: str, problem: str) -> None:
    """InvalidObjectError at ``path`` unless the rule holds."""
    if not holds:
        raise InvalidObjectError(path, problem)


def is_name(text: str) -> bool:
    """Whether ``text`` is a DNS-1123 subdomain of at most 253 characters: what names most objects."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def validate_name(name: str, path: str) -> None:
    """The name of an object: see ``is_name``."""
    require(bool(name), path, "required field is missing")
    require(
        is_name(name),
        path,
        f"{name[:80]!r} must be lower-case letters, digits, '-' or '.',"
        " and start and end with a letter or digit",
    )


def validate_label(name: str, path: str) -> None:
    """A DNS-1123 label of at most 63 characters: container names, namespaces, node names."""
    require(bool(name), path, "required field is missing")
    require(
        len(name) <= 63 and _LABEL.fullmatch(name) is not None,
        path,
        f"{name[:80]!r} must be lower-case letters, digits or '-', at most 63,"
        " and start and end with a letter or digit",
    )


def validate_qualified_name(name: str, path: str) -> None:
    """The key of a label: a name of at most 63 characters, with ``<subdomain>/`` before it or not."""
    prefix, slash, last = name.rpartition("/")
    if slash:
        validate_name(prefix, path)
    require(
        len(last) <= 63 and _QUALIFIED.fullmatch(last) is not None,
        path,
        f"{name[:80]!r} must be letters, digits, '-', '_' or '.', at most 63,"
        " and start and end with a letter or digit",
    )


def validate_variable_name(name: str, path: str) -> None:
    """The name of an environment variable: printable ASCII without ``=``."""
    require(
        _VARIABLE.fullmatch(name) is not None, path, "must be a variable name of printable ASCII without '='"
    )


def validate_key(key: str, path: str) -> None:
    """A key of a ConfigMap or Secret, which is a file name."""
    require(
        len(key) <= 253 and _DATA_KEY.fullmatch(key) is not None and key not in (".", ".."),
        path,
        "a key must be letters, digits, '-', '_' or '.'",
    )


def validate_port(port: int | str, path: str) -> None:
    """A port number, or the name of a port (IANA_SVC_NAME)."""
    if isinstance(port, str):
        require(
            len(port) <= 15 and _PORT_NAME.fullmatch(port) is not None,
            path,
            f"{port[:40]!r} must be lower-case letters (at least one), digits or single '-' between them,"
            " at most 15",
        )
    else:
        require(1 <= port <= 65535, path, "must be between 1 and 65535")


def validate_ip(text: str, path: str) -> None:
    """An IPv4 or IPv6 address."""
    try:
        zoned = bool(getattr(ipaddress.ip_address(text), "scope_id", None))
    except ValueError:
        zoned = True
    require(not zoned, path, f"{text[:80]!r} is not an IP address")


def validate_range(number: int | None, low: int, high: int, path: str) -> None:
    """A number from ``low`` to ``high``; None passes."""
    require(number is None or low <= number <= high, path, f"must be between {low} and {high}")


def validate_no_backsteps(text: str, path: str) -> None:
    """A path without ``..`` as a part of it."""
    require(".." not in text.split("/"), path, "must not contain '..'")
    require("\0" not in text, path, "must not contain a NUL")


def validate_relative_path(text: str, path: str) -> None:
    """A path that leads further down: neither absolute nor with ``..``."""
    require(not text.startswith("/"), path, "must be a relative path")
    validate_no_backsteps(text, path)


def validate_quantity(text: str | int | float, path: str) -> int:
    """A quantity that is not negative; in billionths."""
    try:
        return nano_quantity(text)
    except ValueError as error:
        raise InvalidObjectError(path, str(error)) from None


def validate_unique(names: Iterable[str], path: str, field: str) -> None:
    """No name is there twice; ``path`` is the list's, ``field`` the name's in each of its items."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        require(name not in seen, f"{path}[{index}].{field}", f"{name[:80]!r} is there twice")
        seen.add(name)


def validate_config_map(config_map: ConfigMap) -> None:
    """Keys are file names; a key stands in ``data`` or ``binaryData``, not in both."""
    _validate_keys(config_map.data, "data")
    _validate_keys(config_map.binary_data, "binaryData")
    if twice := sorted(config_map.data.keys() & config_map.binary_data.keys()):
        raise InvalidObjectError(f"binaryData.{twice[0]}", "the key stands in data too")


def validate_secret(secret: Secret) -> None:
    """Keys are file names."""
    _validate_keys(secret.data, "data")
    _validate_keys(secret.string_data, "stringData")


def _validate_keys(keys: Iterable[str], path: str) -> None:
    for key in keys:
        validate_key(key, f"{path}.{key[:80]}")
