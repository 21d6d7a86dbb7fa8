"""Sockets in another network namespace: made there, and nothing of this process goes along."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.node.streams.netns import sockets_inside
from tests.support.waiting import wait_for

FAMILIES = [socket.AF_INET, socket.AF_INET6]


@pytest.fixture
def other() -> Iterator[int]:
    """A process in a network of its own, where somebody listens on port 80 of the loopback."""
    script = "ip link set lo up && echo ready && exec busybox httpd -f -p 127.0.0.1:80"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_for(lambda: _listens(process.pid), 10, "somebody to listen")
        yield process.pid
        process.kill()


def _listens(process: int) -> bool:
    rows = Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(":0050") for row in rows)


def test_a_socket_reaches_the_others_loopback(other: int) -> None:
    async def work() -> None:
        own = os.readlink("/proc/self/ns/net")
        first, second = await sockets_inside(other, FAMILIES)
        assert os.readlink("/proc/self/ns/net") == own
        assert first is not None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            await loop.sock_connect(first, ("127.0.0.1", 80))
            await loop.sock_sendall(first, b"GET /none HTTP/1.0\r\n\r\n")
            assert (await loop.sock_recv(first, 100)).startswith(b"HTTP/1.1 404")
        for one in (first, second):
            if one is not None:
                one.close()

    asyncio.run(work())


def test_a_process_that_is_gone_is_an_error(other: int) -> None:
    process = subprocess.Popen(["true"])
    process.wait()

    async def work() -> None:
        with pytest.raises(PermanentError, match="cannot be reached"):
            await sockets_inside(process.pid, FAMILIES)

    asyncio.run(work())


def test_who_does_not_wait_any_more_leaves_no_socket_open(other: int) -> None:
    async def work() -> None:
        before = len(os.listdir("/proc/self/fd"))
        asking = asyncio.create_task(sockets_inside(other, FAMILIES))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.to_thread(
            wait_for, lambda: len(os.listdir("/proc/self/fd")) <= before, 10, "all sockets to be closed"
        )

    asyncio.run(work())
