"""The tcpSocket action: a connection that can be opened is success."""

from edgeagent.api.objects.probe import TCPSocketAction
from edgeagent.node.pods.probes.connection import Conversation, converse, reason
from edgeagent.node.pods.probes.target import Outcome, ProbeTarget, failure, resolve_port


async def tcp_socket(action: TCPSocketAction, target: ProbeTarget) -> Outcome:
    """Open a connection and close it."""
    host = action.host or target.host
    try:
        port = resolve_port(action.port, target.container)
    except ValueError as error:
        return failure(str(error))
    try:
        await converse(Conversation(), host, port)
    except (OSError, ValueError) as error:
        return failure(reason(error))
    return Outcome(True)
