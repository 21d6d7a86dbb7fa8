"""``edgectl port-forward``: local TCP ports that lead into a pod, or into one behind a Service."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.service import Service
from edgeagent.cli.ctl.errors import CommandError, UsageError, complain
from edgeagent.cli.ctl.session import PauseTeller, decode, server_error, stream_with_hub
from edgeagent.cli.ctl.targets import Target, check_name, namespace_of, parse_targets
from edgeagent.cli.output import escape
from edgeagent.cli.resources import find_resource

if TYPE_CHECKING:
    from edgeagent.cli.forwarding import Forwarded
    from edgeagent.cli.hubclient import HubClient

MAX_PORTS = 32
Wanted = tuple[int | None, int | str]
"""A local port, None for the same as the other, and the pod's port or its name."""


def run(options: argparse.Namespace) -> int:
    """Forward until interrupted, or until the pod is gone."""
    if "/" in options.target:
        [target] = parse_targets([options.target])
    else:
        target = Target(find_resource("pod"), check_name(options.target))
    if target.resource.kind not in ("Pod", "Service"):
        raise UsageError(f"ports are those of a pod or of a service/NAME, not of {target.resource.plural}")
    if len(options.ports) > MAX_PORTS:
        raise UsageError(f"at most {MAX_PORTS} ports at a time")
    wanted = [_parse(word) for word in options.ports]
    return stream_with_hub(options, lambda hub: _forward(hub, target, wanted, options))


def _parse(word: str) -> Wanted:
    """``8080:80``, ``:80``, ``80`` or ``8080:http``."""
    local, colon, remote = word.rpartition(":")
    number = _port(local, lowest=0) if local else 0 if colon else None
    if remote.isascii() and remote.isdecimal():
        return number, _port(remote, lowest=1)
    if not remote or not all(one.isascii() and (one.isalnum() or one == "-") for one in remote):
        raise UsageError(f"{word!r} is not [LOCAL:]REMOTE, such as 8080:80, :80 or 8080:http")
    return number, remote


def _port(text: str, *, lowest: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not lowest <= int(text[:6]) <= 65_535:
        raise UsageError(f"{text[:80]!r} is no port: give a number from {lowest} to 65535")
    return int(text)


async def _forward(
    hub: "HubClient",
    target: Target,
    wanted: Sequence[Wanted],
    options: argparse.Namespace,
) -> int:
    from edgeagent.cli.forwarding import forward_ports
    from edgeagent.cli.hubstreams import open_stream
    from edgeagent.wire.channelio import StreamEndedError
    from edgeagent.wire.rpc import RpcError
    from edgeagent.wire.streamapi import PORT_FORWARD, PortForwardParams

    namespace = namespace_of(options)
    try:
        pod, ports = await _resolve(hub, target, wanted, namespace)
        params = PortForwardParams(namespace=namespace, pod=pod.metadata.name)
        teller = PauseTeller()
        async with open_stream(
            hub, PORT_FORWARD, params, on_pause=teller.paused, on_resume=teller.resumed
        ) as channels:
            await forward_ports(channels, ports, options.address, say=_say, complain=_complain)
    except RpcError as error:
        raise CommandError(server_error(error, target)) from None
    except StreamEndedError as over:
        raise CommandError(f"error: lost connection to pod: {escape(str(over))}") from None
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(text: str) -> None:
    complain(escape(text))


async def _resolve(
    hub: "HubClient", target: Target, wanted: Sequence[Wanted], namespace: str
) -> "tuple[Pod, list[Forwarded]]":
    """The pod, and its ports by number."""
    from edgeagent.cli.forwarding import Forwarded

    service: Service | None = None
    if target.resource.kind == "Service":
        [found] = [decode(raw) for raw in await hub.get("Service", namespace=namespace, name=target.name)]
        if isinstance(found, Service):
            service = found
        pod = await _behind(hub, found, namespace)
    else:
        pod = await hub.pod(namespace, target.name)
    if pod.status.phase != "Running":
        raise CommandError(
            "error: unable to forward port because pod is not running. Current status="
            f"{escape(pod.status.phase or 'Pending')}; see `edgectl describe pod {escape(pod.metadata.name)}`"
        )
    ports = []
    for local, asked in wanted:
        remote = _of_service(service, asked) if service is not None else asked
        number = _of_pod(pod, remote)
        same = asked if isinstance(asked, int) else number
        ports.append(Forwarded(local=same if local is None else local, remote=number))
    return pod, ports


async def _behind(hub: "HubClient", service: object, namespace: str) -> Pod:
    """A pod that the Service stands for: one that is ready, if there is one."""
    if not isinstance(service, Service) or not service.spec.selector:
        raise CommandError("error: cannot attach to a Service without a selector: name a pod")
    raw = await hub.get("Pod", namespace=namespace, labels=service.spec.selector)
    pods = [pod for pod in map(decode, raw) if isinstance(pod, Pod)]
    if not pods:
        raise CommandError(
            f"error: no pod is behind service/{escape(service.metadata.name)}: none has the labels of its"
            " selector"
        )
    return min(pods, key=lambda pod: (not _is_ready(pod), pod.status.phase != "Running", pod.metadata.name))


def _is_ready(pod: Pod) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions)


def _of_service(service: Service, asked: int | str) -> int | str:
    """The target port of a port of a Service."""
    for port in service.spec.ports:
        if asked in (port.port, port.name):
            if port.protocol != "TCP":
                raise CommandError(f"error: {port.protocol} is not supported: only TCP ports are forwarded")
            return port.target_port or port.port
    known = ", ".join(f"{port.port}{f' ({port.name})' if port.name else ''}" for port in service.spec.ports)
    raise CommandError(
        f"error: Service {escape(service.metadata.name)} does not have a service port {asked}; it has:"
        f" {escape(known) or 'none'}"
    )


def _of_pod(pod: Pod, asked: int | str) -> int:
    """The number of a pod's port."""
    ports = [port for one in (*pod.spec.init_containers, *pod.spec.containers) for port in one.ports]
    for port in ports:
        if asked in (port.container_port, port.name) and port.protocol != "TCP":
            raise CommandError(f"error: {port.protocol} is not supported: only TCP ports are forwarded")
        if asked == port.name:
            return port.container_port
    if isinstance(asked, int):
        return asked
    raise CommandError(f"error: Pod {escape(pod.metadata.name)} does not have a named port {asked!r}")
