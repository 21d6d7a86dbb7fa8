"""A device that wants to become a node, and what strangers can do at the listener where it asks."""

import asyncio
import random
from pathlib import Path
from types import TracebackType
from typing import Self

from edgeagent.api.clock import Clock, SystemClock
from edgeagent.cluster.admin import NewToken
from edgeagent.node.enrolment import PendingKeys, Wish, enrol
from edgeagent.node.identity import IdentityDir
from edgeagent.wire.enrolment import new_channel, parse_token
from edgeagent.wire.join import BrokerAddress, JoinFile
from edgeagent.wire.session import Message, MqttSession, SessionConfig
from edgeagent.wire.tls import client_context, unverified_context
from edgeagent.wire.topics import Topics


class Device:
    """Its folder, what it was told, and its identity once it has one."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.files = IdentityDir(directory / "identity")
        self.told: list[str] = []

    async def enrol(
        self,
        made: NewToken,
        *,
        text: str = "",
        name: str = "",
        broker: BrokerAddress | None = None,
        patience: float = 20.0,
        clock: Clock | None = None,
    ) -> JoinFile:
        """``edgeagent enroll`` with the token; what it became is written."""
        wish = Wish(
            cluster=made.cluster,
            node=name or self.name,
            token=parse_token(text or made.text),
            broker=broker or made.broker,
            patience=patience,
        )
        join = await enrol(
            self.files, wish, clock=clock or SystemClock(), rng=random.Random(1), progress=self.told.append
        )
        self.files.write(join)
        PendingKeys(self.files).forget()
        return join


class Stranger:
    """An MQTT client at the listener for enrolment, under any client id, with a certificate or without."""

    def __init__(self, address: BrokerAddress, *, channel: str = "", keys: IdentityDir | None = None) -> None:
        self.channel = channel or new_channel()
        self.messages: list[Message] = []
        context = unverified_context()
        if keys is not None:
            context = client_context(keys.ca, keys.certificate, keys.private_key)
        self._connected = asyncio.Event()
        self.session = MqttSession(
            SessionConfig([address], self.channel, context, reconnect_first=0.05, reconnect_ceiling=0.2),
            clock=SystemClock(),
            rng=random.Random(1),
            on_message=self.messages.append,
            on_connect=lambda _: self._connected.set(),
            on_disconnect=lambda _: None,
        )

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.session.run())
        async with asyncio.timeout(10):
            await self._connected.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def ask(self, topics: Topics, payload: bytes) -> None:
        """Send a request on the own topic, and listen for the answer."""
        await self.session.subscribe([topics.enrolment_answer(self.channel)])
        await self.session.publish(topics.enrolment_request(self.channel), payload)
