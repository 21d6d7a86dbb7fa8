"""The containers of a pod: what each was asked to be, and how it does."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from edgeagent.api.objects.container import Container, EnvVar
from edgeagent.api.objects.pod import ContainerStateUnion, ContainerStatus, Pod
from edgeagent.api.objects.probe import HTTPGetAction, Probe
from edgeagent.api.objects.volume import ResourceFieldSelector, VolumeMount
from edgeagent.api.quantity import parse_quantity
from edgeagent.cli.describe_security import describe_security
from edgeagent.cli.page import Page

_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_PATH_SAFE = "/$&+,:;=@~"
"""What Go leaves as it is in the path of a URL, beside letters, digits, and ``-_.``."""


def describe_containers(
    page: Page, label: str, pod: Pod, containers: Sequence[Container], statuses: Sequence[ContainerStatus]
) -> None:
    """One section, ``Containers:`` or ``Init Containers:``."""
    observed = {status.name: status for status in statuses}
    page.row(0, label)
    for container in containers:
        status = observed.get(container.name)
        _basics(page, container, status)
        if status is not None:
            _state(page, "State:", status.state)
            if status.last_state.terminated is not None:
                _state(page, "Last State:", status.last_state)
            page.row(2, "Ready:", str(status.ready))
            page.row(2, "Restart Count:", str(status.restart_count))
        _resources(page, container)
        _probes(page, container)
        _environment(page, pod, container)
        _mounts(page, container.volume_mounts)


def _basics(page: Page, container: Container, status: ContainerStatus | None) -> None:
    page.row(1, f"{container.name}:")
    if status is not None:
        page.row(2, "Container ID:", status.container_id)
    page.row(2, "Image:", container.image)
    if status is not None:
        page.row(2, "Image ID:", status.image_id)
    many = "s" if len(container.ports) > 1 else ""
    ports = [f"{port.container_port}/{port.protocol}" for port in container.ports]
    host_ports = [f"{port.host_port}/{port.protocol}" for port in container.ports]
    page.row(2, f"Port{many}:", ", ".join(ports) or "<none>")
    page.row(2, f"Host Port{many}:", ", ".join(host_ports) or "<none>")
    describe_security(page, 2, container.security_context)
    if container.restart_policy:
        page.row(2, "Restart Policy:", container.restart_policy)
    for label, words in (("Command:", container.command), ("Args:", container.args)):
        if words:
            page.row(2, label)
        for line in "\n".join(words).split("\n") if words else ():
            page.row(3, line)


def _state(page: Page, label: str, state: ContainerStateUnion) -> None:
    if state.running is not None:
        page.row(2, label, "Running")
        page.row(3, "Started:", page.time(state.running.started_at))
    elif (ended := state.terminated) is not None:
        page.row(2, label, "Terminated")
        _why(page, ended.reason, ended.message)
        page.row(3, "Exit Code:", str(ended.exit_code))
        page.row(3, "Started:", page.time(ended.started_at))
        page.row(3, "Finished:", page.time(ended.finished_at))
    else:
        page.row(2, label, "Waiting")
        if state.waiting is not None:
            _why(page, state.waiting.reason, state.waiting.message)


def _why(page: Page, reason: str, message: str) -> None:
    for label, value in (("Reason:", reason), ("Message:", message)):
        if value:
            page.row(3, label, value)


def _resources(page: Page, container: Container) -> None:
    wanted = container.resources
    for label, amounts in (("Limits:", wanted.limits), ("Requests:", wanted.requests)):
        if amounts:
            page.row(2, label)
        for name, amount in sorted(amounts.items()):
            page.row(3, f"{name}:", str(amount))


def _probes(page: Page, container: Container) -> None:
    for label, probe in (
        ("Liveness:", container.liveness_probe),
        ("Readiness:", container.readiness_probe),
        ("Startup:", container.startup_probe),
    ):
        if probe is not None:
            page.row(2, label, format_probe(probe))


def format_probe(probe: Probe) -> str:
    """A probe as kubectl writes it.

    ``http-get http://:8080/healthz delay=0s timeout=1s period=10s #success=1 #failure=3``
    """
    times = (
        f"delay={probe.initial_delay_seconds}s timeout={probe.timeout_seconds}s"
        f" period={probe.period_seconds}s #success={probe.success_threshold}"
    )
    return f"{_action(probe)} {times} #failure={probe.failure_threshold}"


def _action(probe: Probe) -> str:
    if probe.exec is not None:
        return f"exec [{' '.join(probe.exec.command)}]"
    if probe.http_get is not None:
        return f"http-get {_url(probe.http_get)}"
    if probe.tcp_socket is not None:
        return f"tcp-socket {probe.tcp_socket.host}:{probe.tcp_socket.port}"
    if probe.grpc is not None:
        return f"grpc <pod>:{probe.grpc.port} {probe.grpc.service}"
    return "unknown"


def _url(action: HTTPGetAction) -> str:
    host = f"[{action.host}]" if ":" in action.host else action.host
    path = action.path if action.path.startswith("/") or not action.path else f"/{action.path}"
    return f"{action.scheme.lower()}://{host}:{action.port}{quote(path, safe=_PATH_SAFE, errors='replace')}"


def _environment(page: Page, pod: Pod, container: Container) -> None:
    if container.env_from:
        page.row(2, "Environment Variables from:")
    for source in container.env_from:
        kind = "ConfigMap" if source.config_map_ref is not None else "Secret"
        reference = source.config_map_ref or source.secret_ref
        if reference is not None:
            prefix = f" with prefix '{source.prefix}'" if source.prefix else ""
            page.row(3, reference.name, kind + prefix, _optional(reference.optional))
    page.row(2, "Environment:", *([] if container.env else ["<none>"]))
    for variable in container.env:
        for index, cells in enumerate(_value(pod, container, variable)):
            page.row(3, "" if index else f"{variable.name}:", *cells)


def _value(pod: Pod, container: Container, variable: EnvVar) -> Iterator[list[str]]:
    """The lines of one variable, each as its cells after the name."""
    source = variable.value_from
    if source is None:
        yield from ([line] for line in variable.value.split("\n"))
    elif (field := source.field_ref) is not None:
        value = _field_value(pod, field.field_path)
        yield [f"{value} ({field.api_version or 'v1'}:{field.field_path})"]
    elif (resource := source.resource_field_ref) is not None:
        yield [f"{_resource_value(pod, container, resource)} ({resource.resource})"]
    elif (key := source.secret_key_ref) is not None:
        yield [f"<set to the key '{key.key}' in secret '{key.name}'>", _optional(key.optional)]
    elif (key := source.config_map_key_ref) is not None:
        yield [f"<set to the key '{key.key}' of config map '{key.name}'>", _optional(key.optional)]
    else:
        yield ["<not supported by edgeagent>"]


def _optional(value: bool) -> str:
    return f"Optional: {str(value).lower()}"


def _field_value(pod: Pod, path: str) -> str:
    """What is known before the pod runs, as in kubectl: its metadata."""
    meta = pod.metadata
    if keyed := _KEYED.fullmatch(path):
        return (meta.labels if keyed[1] == "labels" else meta.annotations).get(keyed[2], "")
    known = {"metadata.name": meta.name, "metadata.namespace": meta.namespace, "metadata.uid": meta.uid}
    return known.get(path, "")


def _resource_value(pod: Pod, container: Container, selector: ResourceFieldSelector) -> str:
    """The amount in units of the divisor, rounded up; a limit that is not set is what the node can give."""
    named = selector.container_name or container.name
    asked = next((c for c in (*pod.spec.init_containers, *pod.spec.containers) if c.name == named), container)
    side, _, name = selector.resource.partition(".")
    limits, requests = asked.resources.limits, asked.resources.requests
    amount = limits.get(name, 0) if side == "limits" else requests.get(name, limits.get(name, 0))
    if side == "limits" and name not in limits:
        return "node allocatable"
    try:
        # Rounded first: 0.3 / 0.001 is a little more than 300 in binary fractions.
        return str(math.ceil(round(parse_quantity(amount) / parse_quantity(selector.divisor or 1), 6)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return ""


def _mounts(page: Page, mounts: Sequence[VolumeMount]) -> None:
    page.row(2, "Mounts:", *([] if mounts else ["<none>"]))
    for mount in sorted(mounts, key=lambda mount: mount.mount_path):
        below = mount.sub_path or mount.sub_path_expr
        path = f",path={json.dumps(below, ensure_ascii=False)}" if below else ""
        page.row(3, f"{mount.mount_path} from {mount.name} ({'ro' if mount.read_only else 'rw'}{path})")
