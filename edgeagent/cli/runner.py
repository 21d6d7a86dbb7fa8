"""Running the agent as a process: signals, logging, systemd's notifications."""

import asyncio
import logging
import os
import random
import signal
import socket
import sys

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.cli.logs import configure
from edgeagent.cli.ownerprocess import keep_to_owner
from edgeagent.node.agent import Agent, World
from edgeagent.node.config import AgentConfig

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def run_agent(config: AgentConfig) -> int:
    """Run until SIGTERM or SIGINT; 0 after a clean stop."""
    keep_to_owner()
    if config.agent.log_level not in LEVELS:
        raise PermanentError(f"agent.log_level: {config.agent.log_level!r} is none of {', '.join(LEVELS)}")
    # The journal adds the time itself.
    stamp = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "
    configure(LEVELS[config.agent.log_level], f"{stamp}%(levelname)s %(name)s: %(message)s")
    return asyncio.run(_until_signal(config))


async def _until_signal(config: AgentConfig) -> int:
    loop = asyncio.get_running_loop()
    agent = Agent(config, World(clock=SystemClock(), rng=random.Random()))  # noqa: S311 - jitter, not a secret
    running = loop.create_task(agent.run(ready=lambda: notify_systemd("READY=1")))
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        notify_systemd("STOPPING=1")
        return 0
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            logging.getLogger(__name__).critical("the agent ends by a bug", exc_info=error)
        return 70
    return 0


def notify_systemd(state: str) -> None:
    """Tell systemd, where it started this process with Type=notify (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            print(f"systemd could not be told {state}: {error}", file=sys.stderr)
