"""A container's environment, from its spec and the ConfigMaps and Secrets that it names."""

import re
from collections.abc import Awaitable, Callable, Mapping

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.container import Container, EnvFromSource, EnvVarSource

FindConfigMap = Callable[[str], ConfigMap | None]
FindSecret = Callable[[str], Awaitable[Secret | None]]

_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*", re.ASCII)


async def resolve_environment(
    container: Container, find_config_map: FindConfigMap, find_secret: FindSecret
) -> dict[str, str]:
    """The variables in Kubernetes' order of precedence: ``env`` over ``envFrom``, later over earlier.

    PermanentError (reason ``CreateContainerConfigError``) names what is missing and not optional.
    """
    environment: dict[str, str] = {}
    for source in container.env_from:
        environment.update(await _all_keys(source, find_config_map, find_secret))
    for variable in container.env:
        if variable.value_from is None:
            environment[variable.name] = variable.value
        elif (value := await _one_key(variable.value_from, find_config_map, find_secret)) is not None:
            environment[variable.name] = value
    return environment


async def _all_keys(
    source: EnvFromSource, find_config_map: FindConfigMap, find_secret: FindSecret
) -> dict[str, str]:
    found: Mapping[str, str] | None = None
    if (reference := source.config_map_ref) is not None:
        kind = "configmap"
        config_map = find_config_map(reference.name)
        found = None if config_map is None else config_map.data
    elif (reference := source.secret_ref) is not None:
        kind = "secret"
        secret = await find_secret(reference.name)
        found = (
            None if secret is None else {key: _text(value, kind, key) for key, value in secret.data.items()}
        )
    if reference is None:
        return {}
    if found is None:
        if reference.optional:
            return {}
        raise _missing(f"{kind} {reference.name!r} not found")
    # As kubelet does, keys that cannot be a variable's name are passed over.
    return {
        source.prefix + key: value for key, value in found.items() if _VARIABLE.fullmatch(source.prefix + key)
    }


async def _one_key(
    source: EnvVarSource, find_config_map: FindConfigMap, find_secret: FindSecret
) -> str | None:
    if (selector := source.config_map_key_ref) is not None:
        kind, config_map = "configmap", find_config_map(selector.name)
        exists = config_map is not None
        value = None if config_map is None else config_map.data.get(selector.key)
    elif (selector := source.secret_key_ref) is not None:
        kind, secret = "secret", await find_secret(selector.name)
        exists = secret is not None
        raw = None if secret is None else secret.data.get(selector.key)
        value = None if raw is None else _text(raw, kind, selector.key)
    if selector is None:
        return None
    if value is None and not selector.optional:
        raise _missing(
            f"couldn't find key {selector.key} in {kind} {selector.name!r}"
            if exists
            else f"{kind} {selector.name!r} not found"
        )
    return value


def _text(value: bytes, kind: str, key: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _missing(f"key {key} of the {kind} is not text and cannot be a variable") from None
    if "\0" in text:
        raise _missing(f"key {key} of the {kind} holds a NUL byte and cannot be a variable")
    return text


def _missing(message: str) -> PermanentError:
    return PermanentError(message, reason="CreateContainerConfigError")
