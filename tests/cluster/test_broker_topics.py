"""Every topic that there is, and who may write and read it, on a real Mosquitto with the generated rules.

The topics are those of node ``gw-1``: what a second node, an operator and a stranger can do with them.
"""

import asyncio
import inspect
from dataclasses import dataclass

from edgeagent.api.errors import PermanentError
from edgeagent.wire.session import Message, MqttSession
from edgeagent.wire.topics import Topics
from tests.support.device import Stranger
from tests.support.hubrun import HubDirectory, Peer
from tests.support.waiting import wait_for_async

NODE, SECOND, OPERATOR, OTHER, HUB = "gw-1", "gw-2", "user:admin", "user:other", "hub"
DEVICE, STRANGER = "device", "stranger"
"""At the listener for enrolment: who has the client id that is in the topic, and who has another."""
CERTIFIED = frozenset([NODE, SECOND, OPERATOR, OTHER, HUB])


@dataclass(frozen=True)
class Rule:
    """One topic: the arguments to ``Topics`` that make it, and who may use it. The hub may always."""

    arguments: tuple[str, ...]
    writers: frozenset[str] = frozenset()
    readers: frozenset[str] = frozenset()


def rule(*arguments: str, write: str = "", read: str = "") -> Rule:
    return Rule(arguments, frozenset(write.split()) | {HUB}, frozenset(read.split()) | {HUB})


def rules(channel: str) -> dict[str, Rule]:
    """By the name of the method of ``Topics``; what follows a dot tells two of one method apart."""
    everybody = " ".join(CERTIFIED)
    return {
        "desired": rule(NODE, read=NODE),
        "object": rule("0" * 64, read=f"{NODE} {SECOND}"),
        "status": rule(NODE, write=NODE),
        "online": rule(NODE, write=NODE),
        "pod": rule(NODE, "default", "web", write=NODE),
        "events": rule(NODE, write=NODE),
        "audit": rule(NODE, write=NODE),
        "logs": rule(NODE, write=NODE),
        "metrics": rule(NODE, write=NODE),
        "node_rpc": rule(NODE, "logs", read=NODE),
        "stream": rule(NODE, OPERATOR, "0" * 32, write=OPERATOR, read=NODE),
        "hub_rpc": rule(OPERATOR, "apply", write=OPERATOR),
        "hub_rpc.node": rule(NODE, "renew", write=NODE),
        # A node answers whom the hub has it answer; what it says is sealed, or not believed.
        "replies": rule(OPERATOR, "s", write=everybody, read=OPERATOR),
        "replies.node": rule(NODE, "s", write=everybody, read=NODE),
        "enrolment_request": rule(channel, write=DEVICE),
        "enrolment_answer": rule(channel, read=DEVICE),
    }


def methods() -> set[str]:
    """The names of the methods that make a topic."""
    return {name for name, made in vars(Topics).items() if inspect.isfunction(made) and name[0] != "_"} - {
        "levels"
    }


def test_every_topic_has_a_rule() -> None:
    assert methods() == {name.partition(".")[0] for name in rules("x")}


def test_who_may_use_which_topic(cluster: HubDirectory) -> None:
    cluster.add_node(NODE)
    cluster.add_node(SECOND)
    cluster.add_operator("other", "viewer")
    strangers = {name: Stranger(cluster.enrol_address) for name in (DEVICE, STRANGER)}
    channel = strangers[DEVICE].channel
    table = {
        getattr(cluster.topics, name.partition(".")[0])(*one.arguments): one
        for name, one in rules(channel).items()
    }

    async def run() -> None:
        async with (
            cluster.peer(NODE) as node, cluster.peer(SECOND) as second, cluster.peer(OPERATOR) as operator,
            cluster.peer(OTHER) as other, cluster.peer(HUB) as hub,
            strangers[DEVICE] as device, strangers[STRANGER] as stranger,
        ):  # fmt: skip
            sessions: dict[str, MqttSession] = {
                NODE: node.session, SECOND: second.session, OPERATOR: operator.session,
                OTHER: other.session, HUB: hub.session, DEVICE: device.session, STRANGER: stranger.session,
            }  # fmt: skip
            for topic, one in table.items():
                for name, session in sessions.items():
                    assert await writes(session, topic) == (name in one.writers), f"{name} writes {topic}"
            await reading(table, [node, second, operator, other], [device, stranger], hub)

    asyncio.run(run())


async def writes(session: MqttSession, topic: str) -> bool:
    try:
        await session.publish(topic, b"tried")
    except PermanentError as error:
        return error.reason != "BrokerRefused"
    return True


async def reading(
    table: dict[str, Rule], certified: list[Peer], uncertified: list[Stranger], hub: Peer
) -> None:
    """Mosquitto takes every subscription, and passes on what the rules allow: that is what counts."""
    ends = {one.channel: hub.topics.enrolment_answer(one.channel) for one in uncertified}
    for session in (*(one.session for one in certified), *(one.session for one in uncertified)):
        await session.subscribe([*table, f"{hub.topics.prefix}#"])
    for topic in table:
        await hub.session.publish(topic, b"read")
    for peer in certified:
        await peer.barrier()
    for stranger in uncertified:
        await hub.session.publish(ends[stranger.channel], b"end")

        def ended(messages: list[Message] = stranger.messages) -> bool:
            return any(message.payload == b"end" for message in messages)

        await wait_for_async(ended)
    heard = {peer.name: [m.topic for m in peer.messages if m.payload == b"read"] for peer in certified}
    heard[DEVICE], heard[STRANGER] = (
        [m.topic for m in one.messages if m.payload == b"read"] for one in uncertified
    )
    for topic, one in table.items():
        for name, topics in heard.items():
            assert (topic in topics) == (name in one.readers), f"{name} reads {topic}"
