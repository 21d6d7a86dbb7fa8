"""What the node can be asked about what it uses: the answers behind the local socket and the hub's calls."""

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.node.usage.metrics import node_metrics, pod_metrics
from edgeagent.node.usage.window import UsageWindow
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.top import NodeMetrics, PodMetrics, TopParams, TopPodsParams, TopResult


class UsageReads:
    """Measures when asked, which takes up to a second."""

    def __init__(self, window: UsageWindow) -> None:
        self._window = window

    async def top_call(self, params: msgspec.Raw, limit: int) -> TopResult:
        """The remote call ``top``."""
        decode_json(bytes(params), TopParams)
        before, after = await self._window.measure()
        return _within(TopResult(node=node_metrics(before, after), pods=pod_metrics(before, after)), limit)

    async def top_pods_call(self, params: msgspec.Raw, limit: int) -> TopResult:
        """The remote call ``toppods``."""
        wanted = decode_json(bytes(params), TopPodsParams)
        return _within(TopResult(pods=await self.pods(wanted.namespace, wanted.pod)), limit)

    async def node(self) -> NodeMetrics:
        """The whole machine."""
        return node_metrics(*await self._window.measure())

    async def pods(self, namespace: str = "", name: str = "") -> list[PodMetrics]:
        """The pods of a namespace, or one of them; empty stands for every one.

        PermanentError with reason ``NotFound`` where the one that is named does not run.
        """
        found = [
            one
            for one in pod_metrics(*await self._window.measure())
            if namespace in ("", one.metadata.namespace) and name in ("", one.metadata.name)
        ]
        if name and not found:
            raise PermanentError(f'podmetrics.metrics.k8s.io "{name}" not found', reason="NotFound")
        return found


def _within(result: TopResult, limit: int) -> TopResult:
    """As many of the pods as go into ``limit`` bytes, of which the reply around it takes a quarter."""
    room = limit * 3 // 4 - len(canonical_json(TopResult(node=result.node)))
    kept: list[PodMetrics] = []
    for pod in result.pods:
        room -= len(canonical_json(pod)) + 1
        if room < 0:
            return TopResult(node=result.node, pods=kept, truncated=True)
        kept.append(pod)
    return result
