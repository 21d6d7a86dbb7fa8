"""Pods that a node knows already: their address changes, or they are taken away and put back."""

import asyncio
from pathlib import Path

from edgeagent.api.objects.probe import Probe, TCPSocketAction
from tests.node.podworld import PodWorld, container, pod, run
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
