"""Targets: the metrics that a node sends, at the hub."""

import struct
import zlib
from collections.abc import Iterable, Mapping

from edgeagent.api.metrics import STALE, FamilyHead, SampleBatch, Series
from edgeagent.cluster.metricspage import render
from edgeagent.cluster.metricsqueue import Progress
from edgeagent.wire.metricblock import MetricBlock, Moment, decode_block, encode_block
from tests.fuzz.target import Target, declared

_HEAD = struct.pack("<BIqHH", 1, 0, 0, 0, 1)
LIMIT = 65_536


def _block(data: bytes) -> None:
    """As it comes; and packed, so that what is behind zlib is reached too."""

    def run(block: bytes) -> None:
        found = decode_block(block, limit=LIMIT)
        for one in found.batch.series:
            assert len(one.times) == len(one.values) > 0
        render([("n1", [found])])
        Progress().news(found)

    declared(lambda: run(data))
    declared(lambda: run(_HEAD + zlib.compress(data, 1)))


def _blocks() -> Iterable[bytes]:
    """What is behind zlib, which is the same with every zlib."""
    heads = [FamilyHead("up", "gauge", "Up."), FamilyHead("seconds", "histogram", "Seconds.")]
    series = [
        Series(0, {"n": "1"}, [1000, 2000], [1.0, STALE]),
        Series(1, {"le": "+Inf"}, [2000], [3.0], "_bucket"),
    ]
    block = MetricBlock(
        stream="0123", first=4, count=3, moments=[Moment(4, 1000), Moment(6, 2000)],
        batch=SampleBatch(families=heads, series=series),
    )  # fmt: skip
    yield zlib.decompress(encode_block(block)[len(_HEAD) :])


METRICS: Mapping[str, Target] = {"metrics": Target(_block, _blocks)}
