"""What this machine's agent measures, asked through its socket in the paths of Kubernetes' metrics API."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.cli.localclient import get
from edgeagent.wire.top import METRICS_API, NodeMetrics, PodMetrics, TopResult


class _Nodes(msgspec.Struct):
    items: list[NodeMetrics]


class _Pods(msgspec.Struct):
    items: list[PodMetrics]


def measure(socket: Path) -> TopResult:
    """The node and its pods, which takes up to a second. Raises LocalError.

    PermanentError where the agent is another version's, whose answer cannot be read.
    """
    with ThreadPoolExecutor(max_workers=2) as both:  # so that the agent measures once for both
        nodes = both.submit(get, socket, f"/apis/{METRICS_API}/nodes")
        pods = both.submit(get, socket, f"/apis/{METRICS_API}/pods")
        try:
            found = msgspec.json.decode(nodes.result(), type=_Nodes).items
            running = msgspec.json.decode(pods.result(), type=_Pods).items
        except msgspec.MsgspecError as error:
            raise PermanentError(f"the agent's answer cannot be read (another version?): {error}") from None
    return TopResult(node=found[0] if found else None, pods=running)
