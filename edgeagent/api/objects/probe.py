"""Probes and lifecycle hooks of a container.

https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

from typing import Literal

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.support import Refused


class ExecAction(KubernetesStruct, frozen=True):
    """A command run in the container, not in a shell; exit status 0 is success."""

    command: list[str] = []


class HTTPHeader(KubernetesStruct, frozen=True):
    """One header of a request; the same name may come twice."""

    name: str
    value: str = ""


class HTTPGetAction(KubernetesStruct, frozen=True):
    """A GET; any status from 200 to 399 is success. ``port``: a number, or the name of a container port."""

    port: int | str
    path: str = ""
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: list[HTTPHeader] = []
    protocol: Refused = None


class TCPSocketAction(KubernetesStruct, frozen=True):
    """A connection that can be opened is success. ``port``: a number, or the name of a container port."""

    port: int | str
    host: str = ""


class GRPCAction(KubernetesStruct, frozen=True):
    """``grpc.health.v1.Health/Check`` for ``service``; ``SERVING`` is success."""

    port: int
    service: str = ""
    mode: Refused = None


class SleepAction(KubernetesStruct, frozen=True):
    """Waits for so many seconds."""

    seconds: int


class Probe(KubernetesStruct, frozen=True):
    """When and how a container is asked how it is; exactly one action is set. Times are in seconds."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(KubernetesStruct, frozen=True):
    """What a hook does; exactly one is set."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    sleep: SleepAction | None = None
    tcp_socket: Refused = None


class Lifecycle(KubernetesStruct, frozen=True):
    """``post_start`` runs beside a container that has just started, ``pre_stop`` before it is stopped."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str = ""
