"""Renewals at both doors of a real broker: the session's and the listener that lets anybody in."""

import asyncio
import random
import secrets
from collections.abc import Sequence

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.cluster.certificates import pending
from edgeagent.cluster.store import Store
from edgeagent.node.enrolmentdoor import ask_at_door
from edgeagent.node.hubcalls import HubCalls
from edgeagent.wire.certificates import PrivateKey, read_certificate
from edgeagent.wire.join import BrokerAddress, JoinFile
from edgeagent.wire.renewal import (
    RENEW,
    RenewalAnswer,
    RenewalRequest,
    check_renewed,
    encode_renewal,
    open_renewal_answer,
)
from tests.support.hubrun import CLUSTER, HubDirectory, Peer
from tests.support.waiting import wait_for_async


def request(join: JoinFile, key: PrivateKey, new: PrivateKey) -> bytes:
    """What the node of ``join`` asks, signed by ``key``."""
    content = RenewalRequest(
        cluster=CLUSTER,
        node=join.node,
        certificate=read_certificate(join.certificate).der,
        nonce=secrets.token_bytes(16),
        csr=new.request(join.node),
    )
    return encode_renewal(content, key)


async def at_door(
    directory: HubDirectory, data: bytes, *, patience: float = 10.0, before: Sequence[BrokerAddress] = ()
) -> bytes:
    """The answer at the listener for enrolment."""
    return await ask_at_door(
        data,
        [*before, directory.enrol_address],
        directory.topics,
        clock=SystemClock(),
        rng=random.Random(1),
        patience=patience,
    )


def waiting(directory: HubDirectory, name: str) -> int:
    """How many certificates of the node's wait for their first use."""
    store = Store(directory.files.database)
    try:
        return len(pending(store, name))
    finally:
        store.close()


def test_whoever_holds_the_enrolled_key_renews_without_a_certificate(cluster: HubDirectory) -> None:
    async def main() -> None:
        join = cluster.add_node("n1")
        old, new = PrivateKey(join.private_key), PrivateKey.generate()
        async with cluster.hub():
            asked = request(join, old, new)
            # The first address is nobody's.
            nobody = BrokerAddress(host="127.0.0.1", port=1)
            answer = open_renewal_answer(await at_door(cluster, asked, before=[nobody]), asked, join.trust)
            assert check_renewed(answer, new).common_name == "n1"
            # Repeated by somebody else, it brings nothing more.
            again = open_renewal_answer(await at_door(cluster, asked), asked, join.trust)
            assert again.certificate == answer.certificate
            assert waiting(cluster, "n1") == 1

    asyncio.run(main())


def test_a_wrong_proof_is_not_answered(cluster: HubDirectory) -> None:
    async def main() -> None:
        join, other = cluster.add_node("n1"), cluster.add_node("n2")
        new = PrivateKey.generate()
        async with cluster.hub():
            for key in (new, PrivateKey(other.private_key)):
                with pytest.raises(TemporaryError, match=r"enrolment listener.*no answer"):
                    await at_door(cluster, request(join, key, new), patience=1.0)
            assert waiting(cluster, "n1") == 0

    asyncio.run(main())


def test_a_revoked_node_is_told_that_it_is_one(cluster: HubDirectory) -> None:
    async def main() -> None:
        join = cluster.add_node("n1")
        async with cluster.hub():
            store = Store(cluster.files.database)
            with store.transaction():
                store.execute("UPDATE nodes SET state = 'revoked' WHERE name = 'n1'")
            store.close()
            asked = request(join, PrivateKey(join.private_key), PrivateKey.generate())
            answer = open_renewal_answer(await at_door(cluster, asked), asked, join.trust)
            assert (answer.reason, answer.certificate) == ("Revoked", "")
            assert waiting(cluster, "n1") == 0

    asyncio.run(main())


def test_over_the_session_a_node_renews_for_itself_alone(cluster: HubDirectory) -> None:
    async def ask(peer: Peer, data: bytes, patience: float = 10.0) -> bytes:
        calls = HubCalls(peer.session, peer.topics, peer.name, patience=patience)
        calling = asyncio.create_task(calls.call(RENEW, data))

        def arrived() -> bool:
            for message in peer.messages:
                calls.deliver(message)
            return calling.done()

        await wait_for_async(arrived, what="an answer, or none for too long")
        return await calling

    async def main() -> None:
        one = cluster.add_node("n1")
        cluster.add_node("n2")
        key, new = PrivateKey(one.private_key), PrivateKey.generate()
        async with cluster.hub(), cluster.peer("n1") as n1, cluster.peer("n2") as n2:
            asked = request(one, key, new)
            answer: RenewalAnswer = open_renewal_answer(await ask(n1, asked), asked, one.trust)
            assert check_renewed(answer, new).common_name == "n1"
            # Another node may not speak on this one's topic, nor pass its request on as an own one.
            with pytest.raises(EdgeAgentError):
                await n2.session.publish(n2.topics.hub_rpc("n1", RENEW), asked)
            with pytest.raises(TemporaryError, match="did not answer"):
                await ask(n2, request(one, key, PrivateKey.generate()), patience=1.0)
            assert waiting(cluster, "n1") == 1

    asyncio.run(main())
