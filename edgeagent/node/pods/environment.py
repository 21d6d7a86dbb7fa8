"""A container's environment, from its spec and the ConfigMaps and Secrets that it names."""

import re
from collections.abc import Mapping

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.container import Container, EnvFromSource, EnvVarSource, KeySelector
from edgeagent.node.pods.expansion import expand
from edgeagent.node.pods.fields import field_value, resource_value
from edgeagent.node.pods.lookup import Lookup, PodFacts

MAX_ENVIRONMENT = 6 * 1024 * 1024
"""The largest environment, in characters: with more, the kernel starts no program."""

_VARIABLE = re.compile(r"[ -<>-~]+", re.ASCII)


async def resolve_environment(container: Container, facts: PodFacts, lookup: Lookup) -> dict[str, str]:
    """The variables in Kubernetes' order of precedence: ``env`` over ``envFrom``, later over earlier.

    ``$(NAME)`` in a value stands for what is set so far.
    PermanentError (reason ``CreateContainerConfigError``) names what is missing and not optional.
    """
    environment: dict[str, str] = {}
    for source in container.env_from:
        environment.update(await _all_keys(source, lookup))
    size = sum(len(name) + len(value) for name, value in environment.items())
    for variable in container.env:
        if (source_of := variable.value_from) is None:
            value: str | None = expand(variable.value, environment)
        else:
            value = await _one_value(source_of, container, facts, lookup)
        if value is None:
            continue
        size += len(variable.name) + len(value)
        if size > MAX_ENVIRONMENT:
            raise _wrong(f"the environment is larger than {MAX_ENVIRONMENT} characters")
        environment[variable.name] = value
    return environment


def expand_command(container: Container, environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """``command`` and ``args`` with each ``$(NAME)`` of the container's environment replaced.

    PermanentError (reason ``CreateContainerConfigError``) where they grow larger than any program's may be.
    """
    size = 0
    expanded: list[str] = []
    for text in (*container.command, *container.args):
        expanded.append(expand(text, environment))
        size += len(expanded[-1])
        if size > MAX_ENVIRONMENT:
            raise _wrong(f"command and args are larger than {MAX_ENVIRONMENT} characters")
    count = len(container.command)
    return expanded[:count], expanded[count:]


async def _all_keys(source: EnvFromSource, lookup: Lookup) -> dict[str, str]:
    found: Mapping[str, str] | None = None
    if (reference := source.config_map_ref) is not None:
        kind = "configmap"
        config_map = lookup.config_map(reference.name)
        found = None if config_map is None else config_map.data
    elif (reference := source.secret_ref) is not None:
        kind = "secret"
        secret = await lookup.secret(reference.name)
        found = (
            None if secret is None else {key: _text(value, kind, key) for key, value in secret.data.items()}
        )
    if reference is None:
        return {}
    if found is None:
        if reference.optional:
            return {}
        raise _wrong(f"{kind} {reference.name!r} not found")
    # As kubelet does, keys that cannot be a variable's name are passed over.
    return {
        source.prefix + key: value for key, value in found.items() if _VARIABLE.fullmatch(source.prefix + key)
    }


async def _one_value(
    source: EnvVarSource, container: Container, facts: PodFacts, lookup: Lookup
) -> str | None:
    if source.field_ref is not None:
        return field_value(source.field_ref, facts)
    if source.resource_field_ref is not None:
        return resource_value(source.resource_field_ref, facts, container)
    return await _one_key(source, lookup)


async def _one_key(source: EnvVarSource, lookup: Lookup) -> str | None:
    selector: KeySelector | None
    if (selector := source.config_map_key_ref) is not None:
        kind, config_map = "configmap", lookup.config_map(selector.name)
        exists = config_map is not None
        value = None if config_map is None else config_map.data.get(selector.key)
    elif (selector := source.secret_key_ref) is not None:
        kind, secret = "secret", await lookup.secret(selector.name)
        exists = secret is not None
        raw = None if secret is None else secret.data.get(selector.key)
        value = None if raw is None else _text(raw, kind, selector.key)
    if selector is None:
        return None
    if value is None and not selector.optional:
        raise _wrong(
            f"couldn't find key {selector.key} in {kind} {selector.name!r}"
            if exists
            else f"{kind} {selector.name!r} not found"
        )
    return value


def _text(value: bytes, kind: str, key: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _wrong(f"key {key} of the {kind} is not text and cannot be a variable") from None
    if "\0" in text:
        raise _wrong(f"key {key} of the {kind} holds a NUL byte and cannot be a variable")
    return text


def _wrong(message: str) -> PermanentError:
    return PermanentError(message, reason="CreateContainerConfigError")
