"""A plugin for tests that tells which asyncio tasks an agent has, when it is asked by a signal.

``install`` it where the agent finds plugins, and set ``VARIABLE`` in its environment to the path of a file.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.plugin import PluginInfo
from tests.support.waiting import wait_for

NAME = "tasks-test"
VARIABLE = "EDGEAGENT_TEST_TASKS"


def install(site: Path) -> None:
    """Make this module a plugin for every program that has ``site`` on its path."""
    info = site / "edgeagent_tasks_test-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgeagent-tasks-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[edgeagent]\n{NAME} = {__name__}\n")


def tasks_of(pid: int, file: Path) -> Counter[str]:
    """The tasks of the agent with this process id, by the coroutine that each runs."""
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    wait_for(file.exists, what="the agent to tell its tasks")
    return Counter(json.loads(file.read_text()))


def _tell(file: Path) -> None:
    coroutines = (task.get_coro() for task in asyncio.all_tasks())
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps([getattr(found, "__qualname__", str(found)) for found in coroutines]))
    partial.rename(file)


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """Called on the agent's loop. The plugin has nothing else to give."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, _tell, Path(os.environ[VARIABLE]))
    return PluginInfo(name=NAME, version="1", summary="tells the agent's tasks")
