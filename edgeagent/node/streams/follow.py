"""The service ``follow``: the logs of a pod's containers as they are written, each in a channel of its own.

Nothing is read before there is room for it in the channel, so that a container that prints much costs
neither memory nor the connection: what is not read yet waits in its file.
https://kubernetes.io/docs/reference/kubectl/generated/kubectl_logs/
"""

import asyncio
from collections.abc import Callable
from functools import partial

from edgeagent.api.objects.decode import decode_json
from edgeagent.node.pods.logruns import LogRun, begin_of, log_runs
from edgeagent.node.pods.manager import PodManager
from edgeagent.node.static.folderwatch import FolderWatch
from edgeagent.node.streams.logcursor import LogCursor
from edgeagent.node.streams.service import Serve, StreamRequest, all_of
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, Channels
from edgeagent.wire.channels import MAX_CHANNELS
from edgeagent.wire.streamapi import LOG, FollowParams, LogChannel


class FollowService:
    """``pods`` is None where no runtime could be loaded; ``now`` is the clock by which containers' lines
    are dated.
    """

    def __init__(self, pods: PodManager | None, now: Callable[[], float]) -> None:
        self._pods = pods
        self._now = now

    async def open(self, request: StreamRequest) -> Serve:
        """LogError where there is no such pod, container or run."""
        wanted = decode_json(bytes(request.params), FollowParams)
        runs = log_runs(self._pods, wanted)
        since = begin_of(wanted, self._now())
        return partial(self._serve, wanted, since, runs[:MAX_CHANNELS])

    async def _serve(
        self, wanted: FollowParams, since: float, runs: list[LogRun], channels: Channels
    ) -> None:
        await all_of(self._one(wanted, since, run, channels) for run in runs)

    async def _one(self, wanted: FollowParams, since: float, run: LogRun, channels: Channels) -> None:
        channel = await channels.open(LOG, canonical_json(LogChannel(container=run.container)))
        cursor = LogCursor(run.path, tail_lines=wanted.tail_lines, since=since, timestamps=wanted.timestamps)
        try:
            if wanted.follow and self._pods is not None:
                await self._follow(self._pods, run, cursor, channel)
            else:
                while data := await asyncio.to_thread(cursor.read):
                    await channel.write(data)
            channel.end_writing()
        finally:
            # Where this was cancelled, a thread may be reading still.
            asyncio.get_running_loop().run_in_executor(None, cursor.close)

    async def _follow(self, pods: PodManager, run: LogRun, cursor: LogCursor, channel: Channel) -> None:
        """Until the container has ended and all that it wrote was read."""
        with pods.news.of(run.uid) as news:
            watch = FolderWatch(
                run.path.parent, news.set, matters=lambda name: name.startswith(run.path.name)
            )
            watch.start()
            try:
                while True:
                    news.clear()
                    runs = self._runs(pods, run)
                    while data := await asyncio.to_thread(cursor.read):
                        await channel.write(data)
                    if not runs:
                        return
                    await news.wait()
            finally:
                watch.stop()

    def _runs(self, pods: PodManager, run: LogRun) -> bool:
        """Whether it may still write; the runtime says that it has ended once its log is whole."""
        return any(one.id == run.record.id and one.state == "running" for one in pods.containers_of(run.uid))
