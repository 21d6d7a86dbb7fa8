"""The sinks in their lane, as the agent loads and asks them: none holds another up, none stops the agent."""

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.plugins.host import PluginHost
from edgeagent_logs.sinkconfig import MAX_SINKS
from tests.node.plugin_kit import OURS_OFF, VirtualClock
from tests.plugins.logs.sinkkit import STREAM, lines
from tests.support.elasticsearchreceiver import ElasticsearchReceiver
from tests.support.lokireceiver import LokiReceiver
from tests.support.proc import free_port
from tests.support.waiting import wait_for_async


def host_with(folder: Path, sinks: list[dict[str, object]]) -> PluginHost:
    """A host with the logs plugin alone."""
    host = PluginHost(
        {**OURS_OFF, "logs": {"sinks": sinks}},
        node_name="gateway-7",
        cluster="plant",
        state_dir=folder / "state",
        run_dir=folder / "run",
        identity_dir=folder / "identity",
        clock=VirtualClock(),
        random=random.Random(7),
        on_change=lambda: None,
    )
    host.load()
    return host


def test_one_slow_sink_holds_no_other_up(tmp_path: Path) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            slow = [stack.enter_context(ElasticsearchReceiver()) for _ in range(MAX_SINKS - 1)]
            quick = stack.enter_context(LokiReceiver())
            sections: list[dict[str, object]] = [
                {"type": "elasticsearch", "name": f"slow-{at}", "url": one.url} for at, one in enumerate(slow)
            ]
            host = host_with(tmp_path, [*sections, {"type": "loki", "name": "quick", "url": quick.url}])
            try:
                [ours] = host.log_sinks()
                assert await ours.names() == [*(f"slow-{at}" for at in range(MAX_SINKS - 1)), "quick"]
                for one in slow:
                    one.gate.clear()
                hanging = [
                    asyncio.create_task(ours.ship(f"slow-{at}", STREAM, 0, lines(3)))
                    for at in range(len(slow))
                ]
                for number in range(5):
                    await asyncio.wait_for(ours.ship("quick", STREAM, number, lines(3)), 20)
                assert quick.lines() == ["line 0", "line 1", "line 2"]
                await wait_for_async(lambda: all(one.connections for one in slow), what="all to be asked")
                assert not any(task.done() for task in hanging)
                for one in slow:
                    one.gate.set()
                assert all(one.rejected == {} for one in await asyncio.gather(*hanging))
                assert all(len(one.messages()) == 3 for one in slow)
            finally:
                await host.stop()

    asyncio.run(main())


def test_nobody_there_when_the_agent_starts(tmp_path: Path) -> None:
    async def main() -> None:
        sink = {"type": "syslog", "name": "central", "host": "127.0.0.1", "port": free_port()}
        host = host_with(tmp_path, [sink | {"tls": {"ca_file": "/nowhere/ca.pem"}, "transport": "tls"}])
        try:
            [ours] = host.log_sinks()
            assert await ours.names() == ["central"]
            with pytest.raises(PermanentError, match=r"cannot read /nowhere/ca.pem: No such file"):
                await ours.ship("central", STREAM, 0, lines(1))
        finally:
            await host.stop()
        host = host_with(tmp_path, [sink])
        try:
            [ours] = host.log_sinks()
            with pytest.raises(TemporaryError, match="Connection refused"):
                await ours.ship("central", STREAM, 0, lines(1))
            [status] = [one for one in host.statuses() if one.name == "logs"]
            assert status.state in ("Loaded", "Running")
        finally:
            await host.stop()

    asyncio.run(main())
