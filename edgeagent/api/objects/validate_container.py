"""The rules for containers.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#Container
"""

from collections.abc import Iterator
from posixpath import normpath

from edgeagent.api.objects.container import (
    Container,
    ContainerPort,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    KeySelector,
    ResourceRequirements,
)
from edgeagent.api.objects.pod import PodSpec
from edgeagent.api.objects.support import fields_of
from edgeagent.api.objects.validate import (
    require,
    validate_ip,
    validate_key,
    validate_label,
    validate_name,
    validate_port,
    validate_quantity,
    validate_unique,
    validate_variable_name,
)
from edgeagent.api.objects.validate_probe import validate_lifecycle, validate_probe
from edgeagent.api.objects.validate_security import validate_security_context
from edgeagent.api.objects.validate_volume import (
    ENV_FIELDS,
    validate_field,
    validate_mounts,
    validate_resource_field,
)


def validate_containers(spec: PodSpec) -> None:
    """All containers of a pod, init containers included."""
    require(bool(spec.containers), "spec.containers", "at least one container is required")
    volumes = frozenset(volume.name for volume in spec.volumes)
    for index, container in enumerate(spec.containers):
        path = f"spec.containers[{index}]"
        _validate_container(container, path, spec, volumes)
        _validate_watched(container, path, spec)
    validate_unique([each.name for each in spec.containers], "spec.containers", "name")
    _validate_host_ports(spec.containers, "spec.containers")
    taken = {each.name for each in spec.containers}
    for index, container in enumerate(spec.init_containers):
        path = f"spec.initContainers[{index}]"
        _validate_container(container, path, spec, volumes)
        _validate_init_container(container, path, spec)
        require(container.name not in taken, f"{path}.name", f"{container.name[:80]!r} is there twice")
        taken.add(container.name)
        _validate_host_ports([container], path, single=True)


def _validate_init_container(container: Container, path: str, spec: PodSpec) -> None:
    require(
        container.restart_policy in ("", "Always"), f"{path}.restartPolicy", "must be Always or not be set"
    )
    if container.restart_policy == "Always":
        _validate_watched(container, path, spec)
        return
    for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        require(
            field not in _set_fields(container),
            f"{path}.{field}",
            "may not be set for an init container without restartPolicy Always",
        )


def _validate_container(container: Container, path: str, spec: PodSpec, volumes: frozenset[str]) -> None:
    validate_label(container.name, f"{path}.name")
    require(
        bool(container.image) and not any(char.isspace() for char in container.image),
        f"{path}.image",
        "must be an image reference without spaces",
    )
    require(
        not container.working_dir or container.working_dir.startswith("/"),
        f"{path}.workingDir",
        "must be an absolute path",
    )
    _validate_message_path(container.termination_message_path, f"{path}.terminationMessagePath")
    for index, port in enumerate(container.ports):
        _validate_port(port, f"{path}.ports[{index}]", host_network=spec.host_network)
    _validate_port_names(container.ports, f"{path}.ports")
    for index, variable in enumerate(container.env):
        _validate_variable(variable, f"{path}.env[{index}]")
    for index, source in enumerate(container.env_from):
        _validate_variables(source, f"{path}.envFrom[{index}]")
    context = container.security_context
    validate_mounts(
        container.volume_mounts,
        volumes,
        f"{path}.volumeMounts",
        privileged=context is not None and context.privileged is True,
    )
    _validate_resources(container.resources, f"{path}.resources")
    if context is not None:
        validate_security_context(context, f"{path}.securityContext")


def _validate_message_path(message: str, path: str) -> None:
    """A file is mounted there, so it must be one."""
    if message:
        require(message.startswith("/"), path, "must be an absolute path")
        require(normpath(message).strip("/") != "", path, "must not be the root")


def _validate_watched(container: Container, path: str, spec: PodSpec) -> None:
    """What only containers that go on running may have."""
    if container.lifecycle is not None:
        validate_lifecycle(
            container.lifecycle,
            f"{path}.lifecycle",
            grace_seconds=spec.termination_grace_period_seconds,
            os=spec.os.name if spec.os is not None else "",
        )
    if container.liveness_probe is not None:
        validate_probe(container.liveness_probe, f"{path}.livenessProbe")
    if container.readiness_probe is not None:
        validate_probe(container.readiness_probe, f"{path}.readinessProbe", readiness=True)
    if container.startup_probe is not None:
        validate_probe(container.startup_probe, f"{path}.startupProbe")


def _validate_port(port: ContainerPort, path: str, *, host_network: bool) -> None:
    if port.name:
        validate_port(port.name, f"{path}.name")
    validate_port(port.container_port, f"{path}.containerPort")
    if port.host_port:
        validate_port(port.host_port, f"{path}.hostPort")
        if port.host_ip:
            validate_ip(port.host_ip, f"{path}.hostIP")
        require(
            not host_network or port.host_port == port.container_port,
            f"{path}.hostPort",
            "must equal containerPort where spec.hostNetwork is true",
        )


def _validate_port_names(ports: list[ContainerPort], path: str) -> None:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        require(port.name not in seen, f"{path}[{index}].name", f"{port.name!r} is there twice")
        seen.update({port.name} - {""})


def _validate_host_ports(containers: list[Container], path: str, *, single: bool = False) -> None:
    """No two of these containers take the same port of the node."""
    seen: set[tuple[str, int, str]] = set()
    for index, container in enumerate(containers):
        for place, port in enumerate(container.ports):
            if port.host_port:
                key = (port.protocol, port.host_port, port.host_ip)
                where = f"{path if single else f'{path}[{index}]'}.ports[{place}].hostPort"
                require(key not in seen, where, f"{port.protocol} {port.host_port} is there twice")
                seen.add(key)


def _validate_variable(variable: EnvVar, path: str) -> None:
    validate_variable_name(variable.name, f"{path}.name")
    require("\0" not in variable.value, f"{path}.value", "must not contain a NUL")
    if (source := variable.value_from) is None:
        return
    path = f"{path}.valueFrom"
    require(not variable.value, path, "may not be set together with value")
    found = list(_set_fields(source))
    require(len(found) == 1, path, "set one of configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef")
    _validate_source(source, f"{path}.{found[0]}")


def _validate_source(source: EnvVarSource, path: str) -> None:
    selector: KeySelector | None = source.config_map_key_ref or source.secret_key_ref
    if selector is not None:
        validate_name(selector.name, f"{path}.name")
        require(bool(selector.key), f"{path}.key", "required field is missing")
        validate_key(selector.key, f"{path}.key")
    elif source.field_ref is not None:
        validate_field(source.field_ref, ENV_FIELDS, path)
    elif source.resource_field_ref is not None:
        validate_resource_field(source.resource_field_ref, path)


def _validate_variables(source: EnvFromSource, path: str) -> None:
    if source.prefix:
        validate_variable_name(source.prefix, f"{path}.prefix")
    require(
        (source.config_map_ref is None) != (source.secret_ref is None),
        path,
        "set one of configMapRef and secretRef",
    )
    for name, reference in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
        if reference is not None:
            validate_name(reference.name, f"{path}.{name}.name")


def _set_fields(value: Container | EnvVarSource) -> Iterator[str]:
    return (field.encoded for field in fields_of(type(value)) if getattr(value, field.name) is not None)


def _validate_resources(resources: ResourceRequirements, path: str) -> None:
    limits = {
        name: validate_quantity(text, f"{path}.limits.{name}") for name, text in resources.limits.items()
    }
    for name, text in resources.requests.items():
        request = validate_quantity(text, f"{path}.requests.{name}")
        require(
            request <= limits.get(name, request), f"{path}.requests.{name}", "must not be more than the limit"
        )
