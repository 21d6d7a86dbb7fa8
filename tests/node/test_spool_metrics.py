"""Metrics in the spool: chunks are joined, and on a full disk they cost nothing that matters more."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgeagent.api.errors import TemporaryError
from edgeagent.node.store.spool import Spool

BUDGETS = {"logs": 1 << 20, "metrics": 1 << 20}


@contextmanager
def spool_in(folder: Path, *, pages: int = 0) -> Iterator[Spool]:
    """A spool; ``pages``: how many pages its file may have, as on a disk that is full."""
    spool = Spool(folder / "telemetry.db", BUDGETS, boot_id="boot", now=0.0)
    try:
        for name in BUDGETS:
            spool.set_sinks(name, {"sink"})
        if pages:
            spool._connection.execute(f"PRAGMA max_page_count = {pages}")
        yield spool
    finally:
        spool.close()


def test_on_a_full_disk_metrics_make_room_for_metrics_and_take_none_from_logs(tmp_path: Path) -> None:
    with spool_in(tmp_path, pages=60) as spool:
        for _ in range(15):
            spool.append("logs", bytes(10_000), 1, 0.0)
        with pytest.raises(TemporaryError) as caught:
            spool.append("metrics", bytes(200_000), 1, 0.0)
        assert caught.value.reason == "DiskFull"
        assert spool.usage("logs").bytes == 150_000
        assert spool.dropped["logs"] == 0
        spool.append("metrics", b"first" * 2000, 1, 0.0)
        for _ in range(20):
            spool.append("metrics", b"after" * 2000, 1, 0.0)
        assert spool.usage("logs").bytes == 150_000
        assert spool.dropped["metrics"] > 0
        for _ in range(20):
            spool.append("logs", bytes(10_000), 1, 0.0)
        assert spool.usage("metrics").bytes == 0, "metrics make room for logs"


def test_chunks_are_joined_and_keep_their_numbers(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        for n in range(4):
            spool.append("metrics", bytes([n]) * 100, 5, float(n))
        spool.replace("metrics", 5, 15, b"joined")
        chunks = spool.run_after("metrics", 0, 1 << 20)
        assert [(one.first, one.items, one.made, len(one.body)) for one in chunks] == [
            (0, 5, 0.0, 100), (5, 10, 2.0, 6), (15, 5, 3.0, 100),
        ]  # fmt: skip
        assert spool.usage("metrics").bytes == 206
        assert spool.usage("metrics").chunks == 3
        assert spool.usage("metrics").items == 20
        spool.advance("metrics", "sink", 7)
        found = spool.after("metrics", 7)
        assert found is not None
        assert found.first == 5
        spool.replace("metrics", 0, 10, b"gone in part")
        assert spool.usage("metrics").chunks == 2, "what is not all there is left alone"
        spool.advance("metrics", "sink", 20)
        assert spool.usage("metrics").bytes == 0


def test_a_join_that_is_cut_short_changes_nothing(tmp_path: Path) -> None:
    with spool_in(tmp_path) as spool:
        for n in range(2):
            spool.append("metrics", bytes([n]) * 3000, 5, float(n))
        spool._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(TemporaryError):
            spool.replace("metrics", 0, 10, bytes(500_000))
        assert [one.first for one in spool.run_after("metrics", 0, 1 << 20)] == [0, 5]
        assert spool.usage("metrics").bytes == 6000
    with spool_in(tmp_path) as spool:
        assert spool.usage("metrics").chunks == 2
