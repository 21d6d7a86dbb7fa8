"""The oldest metrics on disk, thinned out and joined to fewer, larger chunks. Runs on the spool's thread."""

import logging

from edgeagent.api.errors import InvalidObjectError
from edgeagent.node.store.spool import Chunk, Spool
from edgeagent.node.telemetry.thinning import join_blocks, thin
from edgeagent.wire.metricblock import MetricBlock, decode_block, encode_block, read_head

log = logging.getLogger(__name__)

CLASS = "metrics"
JOINED_GATHERINGS = 60
"""Chunks are joined once they have this many gatherings together: most of a small chunk is names."""
MAX_LOOKED_AT = 64
"""Chunks that one call looks at."""


class MetricThinner:
    """Each call of ``step`` does one piece of the work that there is, so that none takes long.

    ``resolution`` is the step to thin to, in milliseconds; only chunks made ``after`` seconds ago or earlier
    are touched.
    """

    def __init__(self, *, after: float, resolution: int) -> None:
        self._after = after
        self._resolution = resolution
        self._done = 0

    def step(self, spool: Spool, now: float) -> bool:
        """Whether something was thinned."""
        chunks = self._ripe(spool, now)
        if not chunks:
            return False
        blocks = self._blocks(chunks)
        if blocks:
            joined = thin(join_blocks(blocks), self._resolution)
            end = chunks[len(blocks) - 1].next
            spool.replace(CLASS, chunks[0].first, end, encode_block(joined))
            self._done = end
        else:
            self._done = chunks[0].next
        return bool(blocks)

    def _ripe(self, spool: Spool, now: float) -> list[Chunk]:
        """The oldest chunks that are not thinned yet, if all together are enough for one."""
        found: list[Chunk] = []
        for _ in range(MAX_LOOKED_AT):
            number = found[-1].next if found else self._done
            chunk = spool.after(CLASS, number)
            if chunk is None or chunk.made > now - self._after:
                return []
            if _is_thinned(chunk):
                if found:
                    return found
                self._done = chunk.next
                continue
            if found and chunk.first != number:
                return found
            found.append(chunk)
            if chunk.next - found[0].first >= JOINED_GATHERINGS:
                return found
        return found

    def _blocks(self, chunks: list[Chunk]) -> list[MetricBlock]:
        """The first chunks, thinned one by one, as far as they go on from each other."""
        blocks: list[MetricBlock] = []
        for chunk in chunks:
            try:
                block = decode_block(chunk.body)
            except InvalidObjectError as error:
                log.error("metrics on disk cannot be read: %s", error)
                break
            if blocks and not _follows(blocks[-1], block):
                break
            blocks.append(thin(block, self._resolution))
        return blocks


def _is_thinned(chunk: Chunk) -> bool:
    try:
        return read_head(chunk.body).step > 0
    except InvalidObjectError:
        return False  # what is wrong with it is said where it is read


def _follows(before: MetricBlock, block: MetricBlock) -> bool:
    if not before.moments or not block.moments:
        return False
    rises = before.moments[-1].time < block.moments[0].time
    return block.stream == before.stream and block.first == before.next and rises
