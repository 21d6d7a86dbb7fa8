"""Pods that a node knows already: their address changes, or they are taken away and put back."""

import asyncio
from pathlib import Path

import pytest

from edgeagent.api.clock import parse_rfc3339
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.probe import Probe, TCPSocketAction
from tests.node.podworld import PodWorld, container, pod, run, with_spec
from tests.support.waiting import wait_for_async


def test_probes_follow_the_address_of_the_pod(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.2", 0)
        port = server.sockets[0].getsockname()[1]
        async with PodWorld(tmp_path) as world:
            world.host_ip = "127.0.0.3"
            probe = Probe(tcp_socket=TCPSocketAction(port=port), period_seconds=10)
            await world.apply(pod("a", container(readiness_probe=probe)))
            await wait_for_async(lambda: bool(world.said("Unhealthy")), what="the first attempt")
            world.host_ip = "127.0.0.2"
            await world.advance(10)
            await wait_for_async(lambda: world.container("a").ready, what="where the pod is now")
        server.close()
        await server.wait_closed()

    run(scenario)


@pytest.mark.parametrize("static", [True, False])
def test_a_pod_that_is_put_back_begins_as_new(tmp_path: Path, static: bool) -> None:
    """Under the uid it had, while the hub is still to be told that it was gone."""

    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:

            async def desire(*pods: Pod) -> None:
                if static:
                    world.manager.static_changed({one.metadata.uid: one for one in pods})
                    await world.clock.settle()
                else:
                    await world.apply(*pods)

            made = with_spec(pod("a", policy="Never"), init_containers=[container("init")])
            for _ in range(2):
                await desire(made)
                assert [c.name.split("_")[1] for c in world.runtime.running()] == ["init"]
                assert (world.status("a").phase, world.status("a").reason) == ("Pending", "")
                assert parse_rfc3339(world.status("a").start_time) == world.clock.now()
                await world.end("a", 0, container="init")
                assert world.container("a").last_state.terminated is None
                await world.end("a", 3)
                assert world.status("a").phase == "Failed"
                await world.advance(100)
                await desire()
                assert world.records.by_uid["uid-a"].gone
                assert world.runtime.containers == {}
            assert len(world.runtime.runs) == 4

    run(scenario)


def test_a_pod_past_its_deadline_that_is_put_back_has_all_of_its_time_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with PodWorld(tmp_path) as world:
            made = with_spec(pod("a"), active_deadline_seconds=60)
            await world.apply(made)
            await world.advance(60)
            assert world.status("a").reason == "DeadlineExceeded"
            await world.apply()
            await world.apply(made)
            await world.advance(59)
            assert world.status("a").phase == "Running"
            await world.advance(1)
            assert world.status("a").reason == "DeadlineExceeded"

    run(scenario)
