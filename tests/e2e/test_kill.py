"""The agent is killed at random moments of a generation switch: the store holds the old state or the new."""

import asyncio
import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.node.identity import IdentityDir
from edgeagent.node.store.database import Database
from edgeagent.node.store.desired import DesiredState
from edgeagent.wire.join import BrokerAddress, JoinFile
from edgeagent.wire.session import Connection, Message, MqttSession, SessionConfig
from edgeagent.wire.topics import Topics
from tests.node.indexes import ANCHOR, CLUSTER, NODE, config_map, signed_index
from tests.support.broker import Mosquitto
from tests.support.cluster import program
from tests.support.proc import Process

KILLS = 70
"""In each of three runs, so that two processes can share the work: 210 in all."""
OBJECTS = 12
NOW = 1_800_000_000.0


class Stream:
    """Publishes one signed generation after the other, without a pause, from a thread of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._rng = random.Random(7)
        self._objects: list[KubernetesObject] = [config_map(f"c{n}") for n in range(OBJECTS)]
        self.states: dict[int, dict[str, KubernetesObject]] = {0: {}}
        self.online = threading.Event()
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Stream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._publish())
        except BaseException as error:
            self.failure = error

    async def _publish(self) -> None:
        connected = asyncio.Event()

        def ready(_: Connection) -> None:
            connected.set()

        def nothing(_: str) -> None:
            return None

        def presence(message: Message) -> None:
            if b'"online":true' in message.payload and not message.retain:
                self.online.set()

        address = BrokerAddress(host="127.0.0.1", port=self._port, tls=False)
        session = MqttSession(
            SessionConfig([address], "stream"), clock=SystemClock(), rng=self._rng, on_message=presence,
            on_connect=ready, on_disconnect=nothing,
        )  # fmt: skip
        running = asyncio.create_task(session.run())
        await connected.wait()
        topics = Topics(CLUSTER)
        await session.subscribe([topics.online(NODE)])
        previous: set[str] = set()
        while not self._stop.is_set():
            generation = len(self.states)
            for index in self._rng.sample(range(OBJECTS), 4):
                self._objects[index] = config_map(f"c{index}", os.urandom(self._rng.choice([20, 2000])).hex())
            signed = signed_index(generation, self._objects)
            self.states[generation] = {item.metadata.uid: item for item in self._objects}
            for name in signed.blobs.keys() - previous:
                await session.publish(topics.object(name), signed.blobs[name], retain=True)
            await session.publish(topics.desired(NODE), signed.payload, retain=True)
            previous = set(signed.blobs)
        running.cancel()
        await asyncio.wait({running})


@pytest.fixture
def agent(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Process]:
    """An enrolled agent without a runtime: desired state alone."""
    join = JoinFile(
        cluster=CLUSTER, node=NODE, brokers=[BrokerAddress(host="127.0.0.1", port=mosquitto.port, tls=False)],
        ca="", certificate="", private_key="", trust=ANCHOR, sealing_key=bytes(32),
    )  # fmt: skip
    IdentityDir(tmp_path / "state" / "identity").write(join)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[agent]\nstate_dir = "{tmp_path}/state"\nrun_dir = "{tmp_path}/run"\n'
        "[plugins.podman]\nenabled = false\n[plugins.security]\nenabled = false\n"
        "[plugins.network]\nenabled = false\n"
    )
    process = Process(program("edgeagent", "--config", config, "run"), log=tmp_path / "agent.log")
    yield process
    process.kill()


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_kill_at_any_moment_leaves_the_old_state_or_the_new(
    tmp_path: Path, agent: Process, mosquitto: Mosquitto, seed: int
) -> None:
    rng = random.Random(seed)
    store = tmp_path / "state" / "agent.db"
    pause = threading.Event()
    last, advanced = 0, 0
    with Stream(mosquitto.port) as stream:
        for round_ in range(KILLS):
            stream.online.clear()
            agent.start()
            agent.wait_until(stream.online.is_set, what="online")
            # A random moment is what the test is about: it waits for nothing.
            pause.wait(rng.uniform(0.0, 0.25))
            agent.kill()
            assert stream.failure is None
            generation, objects, recovered = _read(store, tmp_path / "copy")
            assert recovered == "", f"kill {round_}"
            assert generation >= last, f"kill {round_}"
            assert objects == stream.states[generation], f"kill {round_}, generation {generation}"
            advanced += generation > last
            last = generation
    assert advanced > KILLS // 4, "the kills did not fall into a time of switching"


def _read(store: Path, copy: Path) -> tuple[int, dict[str, KubernetesObject], str]:
    """What the store holds, read from a copy, so that the next start finds it as it is."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for suffix in ("", "-wal"):
        source = Path(f"{store}{suffix}")
        if source.exists():
            shutil.copy(source, copy / source.name)
    database = Database(copy / store.name, now=NOW)
    try:
        desired = DesiredState(database, now=NOW)
        return desired.generation, desired.objects, database.recovered
    finally:
        database.close()
