"""A real agent sends its metrics by remote_write, and keeps what nobody takes until somebody does."""

import asyncio
import json
import subprocess
import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from edgeagent.wire.canonical import canonical_json
from tests.support.cluster import program
from tests.support.httpreceiver import says
from tests.support.hubrun import HubDirectory
from tests.support.proc import Process, free_port, port_answers
from tests.support.remotewritereceiver import RemoteWriteReceiver
from tests.support.waiting import wait_for, wait_for_async


def config(folder: Path, url: str, *, exporter: bool = True) -> None:
    off = "".join(
        f"[plugins.{name}]\nenabled = false\n" for name in ("logs", "network", "podman", "security")
    )
    target = f'[[plugins.metrics.remote_write]]\nname = "central"\nurl = "{url}"\n' if exporter else ""
    (folder / "config.toml").write_text(
        f'[agent]\nnode_name = "n1"\nstate_dir = "{folder / "state"}"\nrun_dir = "{folder / "run"}"\n'
        '[pods]\nstatic_pod_path = ""\n'
        '[telemetry]\nmetrics_resolution = "1s"\ndownsampled_resolution = "1s"\n'
        f'{off}[plugins.metrics]\nlisten = ""\n{target}'
    )


def times(receiver: RemoteWriteReceiver, name: str) -> list[int]:
    """When there was a sample of the metric that has no labels of its own."""
    key = json.dumps({"__name__": name, "instance": "n1", "job": "edgeagent"}, sort_keys=True)
    return sorted(receiver.series.get(key, {}))


def seconds(samples: list[int]) -> list[int]:
    return [at // 1000 for at in samples]


def test_what_nobody_takes_arrives_after_a_restart(tmp_path: Path) -> None:
    with RemoteWriteReceiver() as receiver:
        config(tmp_path, f"{receiver.url}/api/v1/write")
        argv = program("edgeagent", "--config", tmp_path / "config.toml", "run")
        spool = tmp_path / "state" / "telemetry.db"
        with Process(argv, log=tmp_path / "agent.log"):
            wait_for(lambda: len(times(receiver, "node_load1")) >= 3, timeout=30, what="samples arrive")
            assert not spool.exists(), "what arrives is not written"
            receiver.faults.extend([says(503)] * 1000)
            last = times(receiver, "node_load1")[-1]
            wait_for(
                lambda: len(receiver.requests) and len(receiver.faults) < 998, timeout=30, what="refused"
            )
        assert spool.exists(), "what waits is written when the agent ends"
        receiver.faults.clear()
        with Process(argv, log=tmp_path / "agent.log"):
            wait_for(lambda: times(receiver, "node_load1")[-1] > last + 5000, timeout=30, what="more arrives")
            found = times(receiver, "node_load1")
            before = [at for at in found if at <= last]
            after = [at for at in found if at > last]
            assert seconds(before) == list(range(seconds(before)[0], seconds(before)[-1] + 1))
            # From the moment that the receiver said no there is no gap, but for the agent's own absence.
            assert after[0] - last < 2500
            wait_for(
                lambda: times(receiver, "edgeagent_metrics_missed_gatherings_total"),
                timeout=10,
                what="its own",
            )
        kinds = {json.loads(key)["__name__"].partition("_")[0] for key in receiver.series}
        assert {"node", "machine", "edgeagent", "process"} <= kinds


def test_an_agent_with_nothing_to_do_but_to_be_scraped_stays(tmp_path: Path) -> None:
    port = free_port()
    config(tmp_path, "", exporter=False)
    path = tmp_path / "config.toml"
    path.write_text(path.read_text().replace('listen = ""', f'listen = "127.0.0.1:{port}"'))
    with Process(program("edgeagent", "--config", path, "run"), log=tmp_path / "agent.log") as agent:
        agent.wait_until(lambda: port_answers(port), what="it can be scraped", timeout=30)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            page = answer.read().decode()
        assert "node_load1 " in page
        assert "edgeagent_metrics_" not in page, "nothing is on its way"
        assert not (tmp_path / "state" / "telemetry.db").exists()
        assert agent.running


def test_by_way_of_broker_and_hub(tmp_path: Path) -> None:
    """The hub shows what the node sends it; while the broker is away it waits, and is shown later."""

    async def work() -> None:
        async with hub.hub():
            with Process(argv, log=tmp_path / "agent.log"):
                await shown(0.0)
                hub.broker.kill()
                gone = time.time()
                await wait_for_async(lambda: time.time() > gone + 5, what="five seconds without a broker")
                hub.start_broker()
                await shown(gone + 5)
        (found,) = [
            sorted(samples)
            for key, samples in receiver.series.items()
            if (labels := json.loads(key))["__name__"] == "node_load1" and labels["node"] == "n1"
        ]
        assert seconds(found) == list(range(seconds(found)[0], seconds(found)[-1] + 1)), "no gap"
        assert found[-1] / 1000 > gone + 5

    async def shown(least: float) -> None:
        def look() -> bool:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                page = answer.read().decode()
            return any(
                sample.labels.get("node") == "n1" and float(sample.timestamp or 0) > least
                for family in text_string_to_metric_families(page)
                if family.name == "node_load1"
                for sample in family.samples
            )

        await wait_for_async(lambda: asyncio.to_thread(look), timeout=60, what="the hub shows it")

    with HubDirectory(tmp_path) as hub, RemoteWriteReceiver() as receiver:
        port = free_port()
        (hub.files.root / "metrics.toml").write_text(
            f'[listen]\nport = {port}\n[remote_write]\nurl = "{receiver.url}/write"\n'
        )
        join = tmp_path / "join.json"
        join.write_bytes(canonical_json(hub.add_node("n1")))
        config(tmp_path, "", exporter=False)
        text = (tmp_path / "config.toml").read_text()
        text = text.replace(
            "[telemetry]\n", "[mqtt]\nreconnect_ceiling_seconds = 1\n[telemetry]\nmetrics_to_hub = true\n"
        )
        (tmp_path / "config.toml").write_text(text.replace('node_name = "n1"\n', ""))
        enroll = program("edgeagent", "--config", tmp_path / "config.toml", "enroll", "--join-file", join)
        subprocess.run(enroll, check=True, capture_output=True, timeout=60)
        argv = program("edgeagent", "--config", tmp_path / "config.toml", "run")
        asyncio.run(work())
