"""The rules for probes and lifecycle hooks.

https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

import re
from collections.abc import Mapping

from edgeagent.api.objects.probe import ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe
from edgeagent.api.objects.validate import MAX_INT32, require, validate_port, validate_range

_SIGNAL = re.compile(
    r"SIG(ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS"
    r"|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ"
    r"|RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?)",
    re.ASCII,
)
_HEADER = re.compile(r"[-A-Za-z0-9]+", re.ASCII)


def validate_probe(probe: Probe, path: str, *, readiness: bool = False) -> None:
    """A liveness or startup probe, or with ``readiness`` a readiness probe."""
    actions = {
        "exec": probe.exec,
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "grpc": probe.grpc,
    }
    _validate_one(actions, path)
    _validate_action(probe.exec, probe.http_get, path)
    if probe.tcp_socket is not None:
        validate_port(probe.tcp_socket.port, f"{path}.tcpSocket.port")
    if probe.grpc is not None:
        validate_port(probe.grpc.port, f"{path}.grpc.port")
    validate_range(probe.initial_delay_seconds, 0, MAX_INT32, f"{path}.initialDelaySeconds")
    validate_range(probe.timeout_seconds, 1, MAX_INT32, f"{path}.timeoutSeconds")
    validate_range(probe.period_seconds, 1, MAX_INT32, f"{path}.periodSeconds")
    validate_range(probe.success_threshold, 1, MAX_INT32, f"{path}.successThreshold")
    validate_range(probe.failure_threshold, 1, MAX_INT32, f"{path}.failureThreshold")
    grace = f"{path}.terminationGracePeriodSeconds"
    if readiness:
        require(probe.termination_grace_period_seconds is None, grace, "may not be set for a readiness probe")
    else:
        require(probe.success_threshold == 1, f"{path}.successThreshold", "must be 1")
        validate_range(probe.termination_grace_period_seconds, 1, MAX_INT32, grace)


def validate_lifecycle(lifecycle: Lifecycle, path: str, *, grace_seconds: int, os: str) -> None:
    """The hooks of a container of a pod with this grace period, and its stop signal; ``os`` is the pod's."""
    for name, handler in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if handler is not None:
            _validate_handler(handler, f"{path}.{name}", grace_seconds)
    if signal := lifecycle.stop_signal:
        where = f"{path}.stopSignal"
        require(bool(os), where, "may only be set where spec.os.name is set")
        known = _SIGNAL.fullmatch(signal) is not None
        require(known, where, f"{signal[:40]!r} is not a signal such as SIGTERM")


def _validate_handler(handler: LifecycleHandler, path: str, grace_seconds: int) -> None:
    actions = {
        "exec": handler.exec,
        "httpGet": handler.http_get,
        "tcpSocket": handler.tcp_socket,
        "sleep": handler.sleep,
    }
    _validate_one(actions, path)
    _validate_action(handler.exec, handler.http_get, path)
    if handler.sleep is not None:
        require(
            0 <= handler.sleep.seconds <= grace_seconds,
            f"{path}.sleep.seconds",
            f"must be between 0 and terminationGracePeriodSeconds ({grace_seconds})",
        )


def _validate_one(actions: Mapping[str, object], path: str) -> None:
    found = [name for name, action in actions.items() if action is not None]
    require(bool(found), path, f"set one of {', '.join(actions)}")
    require(len(found) <= 1, path, f"has more than one action: {', '.join(found)}")


def _validate_action(command: ExecAction | None, request: HTTPGetAction | None, path: str) -> None:
    if command is not None:
        require(bool(command.command), f"{path}.exec.command", "required field is missing")
    if request is not None:
        validate_port(request.port, f"{path}.httpGet.port")
        for index, header in enumerate(request.http_headers):
            require(
                _HEADER.fullmatch(header.name) is not None,
                f"{path}.httpGet.httpHeaders[{index}].name",
                f"{header.name[:80]!r} must be letters, digits or '-'",
            )
