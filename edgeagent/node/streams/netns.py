"""Sockets in another process' network namespace, without this process leaving its own.

A thread of its own joins the namespace (setns(2)), makes the sockets and ends: a socket stays in the
namespace that it was made in. Through ctypes, for ``os.setns`` is in Python 3.12 and newer.
"""

import asyncio
import ctypes
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from edgeagent.api.errors import EdgeAgentError, PermanentError

_CLONE_NEWNET = 0x40000000


async def sockets_inside(
    process: int, families: Sequence[int], *, root: Path = Path("/")
) -> list[socket.socket | None]:
    """A TCP socket of each of ``families`` in the network of a ``process``; None for one that it has not.

    They do not block. PermanentError where the process is gone, or the namespace cannot be joined.
    """
    try:
        namespace = os.open(root / "proc" / str(process) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentError(
            f"the network of the pod cannot be reached: {error.strerror}", reason="BadRequest"
        ) from None
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[socket.socket | None]] = loop.create_future()

    def told(made: list[socket.socket | None], error: EdgeAgentError | None) -> None:
        if done.done():  # nobody waits any more
            for one in made:
                if one is not None:
                    one.close()
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(made)

    def work() -> None:
        made: list[socket.socket | None] = []
        problem: EdgeAgentError | None = None
        try:
            _join(namespace)
            made.extend(_tcp(family) for family in families)
        except OSError as error:
            problem = PermanentError(
                f"the network of the pod cannot be joined: {error.strerror}", reason="InternalError"
            )
        finally:
            os.close(namespace)
        loop.call_soon_threadsafe(told, made, problem)

    threading.Thread(target=work, name="pod network", daemon=True).start()
    return await done


def _join(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _tcp(family: int) -> socket.socket | None:
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    made.setblocking(False)
    return made
