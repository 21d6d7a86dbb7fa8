"""Taking one action of a probe or a lifecycle hook."""

import asyncio
from collections.abc import Awaitable, Callable

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.probe import ExecAction, LifecycleHandler, Probe
from edgeagent.node.pods.probes.target import Outcome, ProbeTarget, failure


async def perform(
    action: Probe | LifecycleHandler,
    target: ProbeTarget,
    timeout: float,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Outcome:
    """Take the action that is set, for at most ``timeout`` seconds; what takes longer has failed.

    Raises nothing but for being cancelled, which leaves nothing behind. ``sleep`` is the pause of a sleep
    action (``Clock.sleep``); the timeout of a connection is the event loop's time. As with kubelet, a
    hook's httpGet succeeds with any status: what matters is that the request was answered.
    """
    if action.exec is not None:
        return await _exec(action.exec, target, timeout)
    if isinstance(action, LifecycleHandler) and action.sleep is not None:
        await sleep(min(action.sleep.seconds, timeout))
        return Outcome(True) if action.sleep.seconds <= timeout else failure(_late(timeout))
    try:
        async with asyncio.timeout(timeout):
            return await _connect(action, target)
    except TimeoutError:
        return failure(_late(timeout))


async def _connect(action: Probe | LifecycleHandler, target: ProbeTarget) -> Outcome:
    """The actions that need a connection; each is imported when the first container uses it."""
    if action.http_get is not None:
        from edgeagent.node.pods.probes.http import http_get

        return await http_get(action.http_get, target, hook=isinstance(action, LifecycleHandler))
    if isinstance(action, Probe) and action.tcp_socket is not None:
        from edgeagent.node.pods.probes.tcp import tcp_socket

        return await tcp_socket(action.tcp_socket, target)
    if isinstance(action, Probe) and action.grpc is not None:
        try:
            from edgeagent.node.pods.probes.grpc import grpc_check
        except ModuleNotFoundError as error:
            return failure(f"a grpc probe needs the Python package h2, which is not installed ({error})")
        return await grpc_check(action.grpc, target)
    return failure("no action is set")


async def _exec(action: ExecAction, target: ProbeTarget, timeout: float) -> Outcome:
    try:
        result = await target.exec(action.command, timeout)
    except TemporaryError as error:
        return failure(str(error), unknown=True)
    except PermanentError as error:
        return failure(str(error))
    if result.timed_out:
        return failure(f"command {_shown(action.command)} timed out after {timeout:g}s")
    if result.exit_code == 0:
        return Outcome(True)
    output = result.output.decode(errors="replace").strip()
    return failure(f"exit status {result.exit_code}" + (f": {output}" if output else ""))


def _shown(command: list[str]) -> str:
    text = " ".join(command)
    return repr(text if len(text) <= 200 else text[:199] + "…")


def _late(timeout: float) -> str:
    return f"timed out after {timeout:g}s"
