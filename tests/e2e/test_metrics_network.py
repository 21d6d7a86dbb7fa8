"""Metrics of a pod's own network, on a machine without a hub."""

from pathlib import Path

import pytest

from tests.plugins.metrics.metricskit import page_of, value
from tests.support.lone import LoneAgent, static_pod
from tests.support.podman import PodmanService
from tests.support.proc import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


def test_the_network_of_pods(podman: PodmanService, tmp_path: Path) -> None:
    number = free_port()
    extra = f'[plugins.metrics]\nlisten = "127.0.0.1:{number}"\n'
    with LoneAgent(tmp_path / "lone", podman, extra=extra, name="metrics") as agent:
        with agent.running(static_pod("talker", hostNetwork=False)):
            labels = {"pod": agent.full_name("talker"), "container": "POD", "interface": "eth0"}
            page = page_of(number)
            assert value(page, "container_network_transmit_packets_total", **labels) >= 0
            assert "edgeagent_mqtt_connected" not in page, "it has no cluster"
        wait_for(lambda: "talker" not in page_of(number), 30, "the pod to be gone from the page")
