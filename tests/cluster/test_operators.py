"""Who may call the hub: signatures and role bindings, over the real broker, against whoever owns it too."""

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.cli.hubclient import HubClient
from edgeagent.cluster.ca import Authority
from edgeagent.cluster.layout import read_file
from edgeagent.cluster.operators import list_operators, revoke_operator
from edgeagent.cluster.store import Store
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import OperatorFile
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.operatorcalls import CALL_SECONDS, OperatorSigner, SignedCall
from edgeagent.wire.rpc import RpcError, decode_reply, encode_reply
from tests.support.hubrun import CLUSTER, HubDirectory, Peer, config_map, pod, secret
from tests.support.operators import request
from tests.support.waiting import wait_for_async

GET = {"kind": "ConfigMap", "namespace": "default"}


def binding(kind: str, name: str, role: str, user: str, namespace: str = "") -> dict[str, Any]:
    """A manifest."""
    meta = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user}],
    }  # fmt: skip


def firewall() -> dict[str, Any]:
    """A manifest of a HostFirewall."""
    return {"apiVersion": "edgeagent/v1", "kind": "HostFirewall", "metadata": {"name": "all"}}


async def forbidden(peer: Peer, method: str, params: object, **more: str) -> str:
    """The message of a call that is refused for lack of a right."""
    error = await peer.failure(method, params, **more)
    assert error.reason == "Forbidden", error
    return str(error)


def test_each_role_does_its_own_and_no_more(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    cluster.add_operator("ann", "viewer")
    cluster.add_operator("ben", "operator", "shop")
    cluster.add_operator("cyd", "admin", "shop")

    async def run() -> None:
        async with (
            cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("user:ann") as ann,
            cluster.peer("user:ben") as ben, cluster.peer("user:cyd") as cyd,
        ):  # fmt: skip
            await admin.apply(config_map("a"), config_map("b", "shop"), secret("s", "shop"))
            assert len(await ann.get("ConfigMap")) == 2
            assert await ann.get("Node", "gw-1")
            assert 'user "ann" cannot list resource "secrets"' in await forbidden(
                ann, "get", {"kind": "Secret"}
            )
            said = await forbidden(ann, "apply", {"objects": [config_map("c")]})
            assert said.startswith(
                'configmaps "c" is forbidden: user "ann" cannot create resource "configmaps"'
                ' in namespace "default": an admin can bind the role operator to ann with a RoleBinding'
            )
            await forbidden(ann, "delete", {"kind": "ConfigMap", "namespace": "default", "name": "a"})

            assert await ben.apply(config_map("c", "shop"), pod("web", "gw-1", "shop")) == ["created"] * 2
            assert await ben.get("Secret", "s", "shop")
            for refused in (
                config_map("c"), secret("t", "shop"), binding("RoleBinding", "r", "viewer", "ann", "shop"),
                firewall(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
            ):  # fmt: skip
                # All of them or none: what ben may do does not happen either.
                await forbidden(ben, "apply", {"objects": [config_map("d", "shop"), refused]})
            await forbidden(ben, "get", {"kind": "ConfigMap"})
            await forbidden(ben, "get", {"kind": "ConfigMap", "namespace": "default", "name": "a"})
            await forbidden(ben, "get", {"kind": "Node", "name": "gw-1"})
            await forbidden(ben, "watch", {"kind": "Pod"})
            await forbidden(ben, "network", {"what": "drops"}, target="gw-1")
            await forbidden(ben, "reboot", {}, target="gw-1")
            found = [one["metadata"]["name"] for one in await ben.get("ConfigMap", namespace="shop")]
            assert found == ["b", "c"]

            assert await cyd.apply(secret("t", "shop"), binding("RoleBinding", "r", "view", "dan", "shop"))
            await forbidden(cyd, "apply", {"objects": [binding("RoleBinding", "r", "view", "dan", "till")]})
            await forbidden(cyd, "apply", {"objects": [binding("ClusterRoleBinding", "r", "admin", "cyd")]})
            await forbidden(cyd, "apply", {"objects": [firewall()]})
            await forbidden(
                cyd, "delete", {"kind": "ClusterRoleBinding", "namespace": "", "name": "admin-admin"}
            )
            await forbidden(cyd, "audit", {})
            assert await admin.apply(firewall()) == ["created"]

            rows = (await admin.call("audit", {}))["rows"]
            assert {row["operator"] for row in rows} == {"admin", "ann", "ben", "cyd"}
            refusals = [row for row in rows if row["verdict"] == "refused"]
            assert all("is forbidden" in row["reason"] for row in refusals)
            assert ("ben", "configmaps/shop/c, pods/shop/web") in [
                (row["operator"], row["target"]) for row in rows if row["verdict"] == "allowed"
            ]
            assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))

    asyncio.run(run())


def test_where_a_stream_goes_is_told_to_who_may_have_it(cluster: HubDirectory) -> None:
    key = cluster.add_node("gw-1").sealing_key
    cluster.add_operator("ann", "viewer")
    cluster.add_operator("ben", "operator", "shop")

    async def run() -> None:
        async with (
            cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("user:ann") as ann,
            cluster.peer("user:ben") as ben,
        ):  # fmt: skip
            await admin.apply(pod("web", "gw-1", "shop"), pod("web", "gw-1"))

            def asked(method: str, namespace: str = "shop", name: str = "web") -> dict[str, str]:
                return {"method": method, "namespace": namespace, "pod": name}

            for peer, method in ((ann, "follow"), (ben, "follow"), (ben, "exec"), (ben, "portforward")):
                told = await peer.call("nodekey", asked(method))
                assert told == {"node": "gw-1", "key": base64.b64encode(SealingKey(key).public).decode()}
            for peer, method, namespace in (
                (ann, "exec", "shop"), (ann, "portforward", "shop"), (ben, "follow", "default"),
            ):  # fmt: skip
                await forbidden(peer, "nodekey", asked(method, namespace))
            for params, reason, words in (
                (asked("follow", name="none"), "NotFound", 'pods "none" not found'),
                (asked("reboot"), "Invalid", "'reboot' is no stream"),
                (asked("x" * 100), "Invalid", "is no stream"),
            ):
                error = await admin.failure("nodekey", params)
                assert (error.reason, words in str(error)) == (reason, True), error

    asyncio.run(run())


def test_a_namespace_that_is_named_gives_no_right_to_what_is_in_none(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    cluster.add_operator("ben", "admin", "shop")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:ben") as ben:
            for method in ("get", "watch"):
                said = await forbidden(ben, method, {"kind": "Node", "namespace": "shop"})
                assert 'resource "nodes" at the cluster scope' in said

    asyncio.run(run())


def test_bindings_travel_to_every_node_and_what_makes_no_sense_is_refused(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("gw-1") as node:
            made = binding("RoleBinding", "ann", "view", "ann", "shop")
            assert await admin.apply(made) == ["created"]

            async def told() -> bool:
                kinds = [(e.kind, e.name) for e in (await node.index(all_of_it=True)).objects]
                return {("RoleBinding", "ann"), ("ClusterRoleBinding", "admin-admin")} <= set(kinds)

            await wait_for_async(told)
            for changed, words in (
                ({"roleRef": {"kind": "ClusterRole", "name": "edit"}}, "roleRef: may not change"),
                ({"roleRef": {"kind": "Role", "name": "view"}}, "roleRef.kind: 'Role' is not supported"),
                ({"roleRef": {"kind": "ClusterRole", "name": "root"}}, "no ClusterRole 'root', only viewer"),
                ({"subjects": [{"kind": "Group", "name": "all"}]}, "kind: 'Group' is not supported"),
                ({"subjects": [{"kind": "User", "name": "Ann Lee"}]}, "subjects[0].name"),
            ):
                refused = await admin.failure("apply", {"objects": [made | changed]})
                assert (refused.reason, words in str(refused)) == ("Invalid", True), refused
            trust = {"apiVersion": "edgeagent/v1", "kind": "ClusterTrust", "metadata": {"name": "cluster"}}
            assert "cannot be applied" in str(await admin.failure("apply", {"objects": [trust]}))
            assert await admin.call("delete", {"kind": "RoleBinding", "namespace": "shop", "name": "ann"})

    asyncio.run(run())


class Attack:
    """Sends what should not count, on the topic of a real operator, and waits for what is said to it."""

    def __init__(self, cluster: HubDirectory, admin: Peer, owner: Peer) -> None:
        self.cluster = cluster
        self.admin = admin
        self.owner = owner
        self._number = 0

    async def refusal(self, payload: bytes, *, method: str = "apply", user: str = "user:admin") -> RpcError:
        """Publish as whoever owns the broker; the failure that the operator is told."""
        self._number += 1
        topic = self.admin.topics.replies(user, "attack")
        await self.owner.session.subscribe([topic])
        mark = b"%d" % self._number
        await self.owner.session.publish(
            self.admin.topics.hub_rpc(user, method), payload, response_topic=topic, correlation=mark
        )
        await wait_for_async(
            lambda: any(m.correlation == mark for m in self.owner.messages if m.topic == topic)
        )
        [answer] = [m for m in self.owner.messages if m.topic == topic and m.correlation == mark]
        with pytest.raises(RpcError) as raised:
            decode_reply(answer.payload)
        return raised.value

    def call(self, *, by: OperatorSigner | None = None, **fields: Any) -> bytes:
        """A call of ``apply`` as an operator signs it, with some fields of it others."""
        known: dict[str, Any] = {
            "method": "apply", "nonce": f"{self._number:032}", "expires": SystemClock().now() + CALL_SECONDS,
            "params": msgspec.Raw(canonical_json({"objects": [config_map("evil")]})),
            "reply_topic": self.admin.topics.replies("user:admin", "attack"),
        }  # fmt: skip
        signer = by or self.admin.signer
        assert signer is not None
        return signer.sign_request(request("admin", CLUSTER, **(known | fields)))


def test_whoever_owns_the_broker_makes_no_call(
    cluster: HubDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    join = cluster.add_node("gw-1")
    ann = cluster.add_operator("ann", "viewer")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("hub") as owner:
            attack, topics = Attack(cluster, admin, owner), admin.topics
            stranger = Authority.create(CLUSTER, SystemClock())[0].operator("admin")
            as_stranger = OperatorSigner(CLUSTER, "user:admin", stranger.certificate, stranger.key)
            as_node = OperatorSigner(CLUSTER, "gw-1", join.certificate, join.private_key)
            as_ann = OperatorSigner(CLUSTER, ann.user, ann.certificate, ann.private_key)
            now, anns = SystemClock().now(), admin.topics.replies("user:ann", "x")
            unsigned = canonical_json({"objects": [config_map("evil")]})
            good = msgspec.msgpack.decode(attack.call(), type=SignedCall)
            edited = msgspec.structs.replace(
                good.envelope, payload=good.envelope.payload.replace(b"evil", b"evi1")
            )
            for payload, words in (
                (unsigned, "not a call that an operator signed"),
                (b"", "not a call that an operator signed"),
                (msgspec.msgpack.encode(msgspec.structs.replace(good, envelope=edited)), "not signed by"),
                (attack.call(by=as_stranger), "not signed by the cluster's CA"),
                (attack.call(by=as_node), "is not an operator's"),
                (attack.call(by=as_ann), "the call says it is of 'user:admin', but ann signed it"),
                (attack.call(by=as_ann, user="user:ann"), "own reply topic"),
                (
                    attack.call(by=as_ann, user="user:ann", reply_topic=anns),
                    "came under the name of 'user:admin'",
                ),
                (attack.call(expires=now - 5), "expired"),
                (attack.call(expires=now + 1000), "from the future"),
                (attack.call(target="gw-1"), "another node, method or cluster"),
                (attack.call(method="get"), "another node, method or cluster"),
                (attack.call(cluster="other"), "another node, method or cluster"),
                (attack.call(reply_topic=admin.topics.replies("user:admin", "own")), "another reply topic"),
            ):  # fmt: skip
                refused = await attack.refusal(payload)
                assert (refused.reason in ("Unauthorized", "Invalid"), words in str(refused)) == (
                    True,
                    True,
                ), refused
            assert await admin.get("ConfigMap") == []
            # One that the operator did sign is served, and not again.
            await admin.apply(config_map("good"))
            captured = attack.call(nonce="z" * 32)
            topic, reply = topics.hub_rpc("user:admin", "apply"), topics.replies("user:admin", "attack")
            for mark in (b"first", b"again"):
                await owner.session.publish(topic, captured, response_topic=reply, correlation=mark)
            await wait_for_async(lambda: any(m.correlation == b"first" for m in owner.messages))
            await admin.get("Node")
            await owner.barrier()
            assert not any(m.correlation == b"again" for m in owner.messages if m.topic == reply)
            assert "user:admin calls apply and is refused: the call was already served" in caplog.text
            rows = (await admin.call("audit", {}))["rows"]
            assert [(row["operator"], row["verdict"]) for row in rows] == [("admin", "allowed")] * 2

    asyncio.run(run())


def test_a_call_is_not_served_again_by_the_next_hub(
    cluster: HubDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """One that was on its way while there was no hub is served, once."""

    async def run() -> None:
        async with cluster.peer("user:admin") as admin, cluster.peer("hub") as owner:
            attack = Attack(cluster, admin, owner)
            captured, topics = attack.call(nonce="z" * 32), admin.topics
            topic, reply = topics.hub_rpc("user:admin", "apply"), topics.replies("user:admin", "attack")
            for again in (False, True):
                async with cluster.hub():
                    if again:
                        await admin.call(
                            "delete", {"kind": "ConfigMap", "namespace": "default", "name": "evil"}
                        )
                    await owner.session.publish(topic, captured, response_topic=reply, correlation=b"1")
                    await admin.get("Node")
                    assert [one["metadata"]["name"] for one in await admin.get("ConfigMap")] == (
                        [] if again else ["evil"]
                    )
            assert "user:admin calls apply and is refused: the call was already served" in caplog.text

    asyncio.run(run())


def test_a_revoked_operator_is_refused_at_once_and_every_node_is_told(cluster: HubDirectory) -> None:
    cluster.add_node("gw-1")
    cluster.add_operator("ann", "operator")

    async def run() -> None:
        async with (
            cluster.hub() as hub, cluster.peer("user:admin") as admin, cluster.peer("user:ann") as ann,
            cluster.peer("gw-1") as node,
        ):  # fmt: skip
            await ann.apply(config_map("a"))
            ends: list[RpcError] = []

            async def watch() -> None:
                try:
                    async for _ in ann.stream("watch", GET | {"timeoutSeconds": 60}):
                        pass
                except RpcError as error:
                    ends.append(error)

            watching = asyncio.create_task(watch())
            await wait_for_async(lambda: any(b"ADDED" in m.payload for m in ann.messages))
            count, _ = revoke_operator(cluster.files, "ann", SystemClock())
            assert count == 1
            refused = await ann.failure("get", GET)
            assert (refused.reason, str(refused)) == (
                "Unauthorized", "the certificate of operator ann was revoked",
            )  # fmt: skip
            hub.reload()  # as SIGHUP has it
            await asyncio.wait_for(watching, 10)
            assert (ends[0].reason, "revoked" in str(ends[0])) == ("Forbidden", True)

            async def told() -> bool:
                [trust] = await admin.get("ClusterTrust")
                found = (await node.index(all_of_it=True)).objects
                told = [e for e in found if e.kind == "ClusterTrust" and e.uid == trust["metadata"]["uid"]]
                bindings = [e.name for e in found if e.kind == "ClusterRoleBinding"]
                return bool(told) and bindings == ["admin-admin"]

            await wait_for_async(told)
            assert await admin.get("ConfigMap", "a", "default")
        # A new file under the same name is another certificate.
        again = cluster.add_operator("ann", "viewer")
        async with cluster.hub(), cluster.peer(again.user) as ann:
            assert await ann.get("ConfigMap", "a", "default")

    asyncio.run(run())


def test_a_watch_ends_with_the_role_that_allowed_it(cluster: HubDirectory) -> None:
    cluster.add_operator("ann", "viewer")

    async def run() -> None:
        async with cluster.hub(), cluster.peer("user:admin") as admin, cluster.peer("user:ann") as ann:

            async def watch() -> list[Any]:
                return [one async for one in ann.stream("watch", GET | {"timeoutSeconds": 60})]

            watching = asyncio.create_task(watch())
            await admin.apply(config_map("a"))
            await wait_for_async(lambda: any(b"ADDED" in m.payload for m in ann.messages))
            await admin.call("delete", {"kind": "ClusterRoleBinding", "namespace": "", "name": "viewer-ann"})
            with pytest.raises(RpcError, match='user "ann" cannot watch resource "configmaps"'):
                await asyncio.wait_for(watching, 10)

    asyncio.run(run())


def test_operators_are_listed_with_their_roles_and_the_last_admin_stays(cluster: HubDirectory) -> None:
    cluster.add_operator("ann", "viewer")
    cluster.add_operator("ann", "operator", "shop", "till")
    cluster.add_operator("ann", "operator", "shop")
    found = {one.name: one for one in list_operators(cluster.files)}
    assert found["admin"].roles == (("admin", ""),)
    assert found["ann"].roles == (("operator", "shop"), ("operator", "till"), ("viewer", ""))
    assert revoke_operator(cluster.files, "ann", SystemClock())[0] == 3
    found = {one.name: one for one in list_operators(cluster.files)}
    assert (found["ann"].roles, found["ann"].revoked, found["admin"].revoked) == ((), True, False)
    with pytest.raises(PermanentError, match="admin is the only admin of the cluster"):
        revoke_operator(cluster.files, "admin", SystemClock())
    with pytest.raises(PermanentError, match="there is no operator 'dan'"):
        revoke_operator(cluster.files, "dan", SystemClock())
    cluster.add_operator("eve", "admin")
    assert revoke_operator(cluster.files, "admin", SystemClock())[0] == 1
    store = Store(cluster.files.database)
    [trust] = [json.loads(stored.body) for stored in store.select("ClusterTrust")]
    store.close()
    assert len(trust["spec"]["revokedOperators"]) == 4
    assert read_file(cluster.files.operator), "the file of the revoked operator is the owner's to delete"


def test_an_operator_that_cannot_be_is_not_made(cluster: HubDirectory) -> None:
    with pytest.raises(Exception, match="operator: 'Ann Lee' must be lower-case"):
        cluster.add_operator("Ann Lee", "viewer")
    with pytest.raises(Exception, match="namespace: 'a/b' must be lower-case"):
        cluster.add_operator("ann", "viewer", "a/b")
    assert [one.name for one in list_operators(cluster.files)] == ["admin"]


def test_a_forged_call_opens_nobody_elses_answers(cluster: HubDirectory) -> None:
    """Topic and correlation data of a call are seen by whoever owns the broker; its answers stay sealed."""
    operator = msgspec.json.decode(cluster.files.operator.read_bytes(), type=OperatorFile)

    async def run() -> None:
        async with cluster.hub(), HubClient(operator) as admin, cluster.peer("hub") as owner:
            topics = owner.topics
            await owner.session.subscribe(
                [topics.replies("user:admin", "+"), topics.hub_rpc("user:admin", "+")]
            )
            async with admin.watch("ConfigMap") as events:
                await wait_for_async(lambda: any("/watch" in m.topic for m in owner.messages))
                [call] = [m for m in owner.messages if "/watch" in m.topic]
                for payload in (b"garbage", call.payload):
                    for method in ("get", "watch", "cancel"):
                        await owner.session.publish(
                            topics.hub_rpc("user:admin", method), payload,
                            response_topic=call.response_topic, correlation=call.correlation,
                        )  # fmt: skip
                # Nor does an answer that somebody else makes up count.
                await owner.session.publish(
                    call.response_topic, encode_reply(None), correlation=call.correlation
                )
                await admin.apply([msgspec.Raw(canonical_json(config_map("a", TEXT="for-ann-alone")))])
                assert b"for-ann-alone" in bytes((await anext(events)).object)
                await owner.barrier()
            answers = [m.payload for m in owner.messages if "/replies/" in m.topic]
            in_clear = [one for one in answers if one.startswith(b"{")]
            assert sum(b"not a call that an operator signed" in one for one in in_clear) == 3
            assert len(in_clear) == 4
            assert not any(b"for-ann-alone" in one for one in answers)

    asyncio.run(run())


@pytest.mark.parametrize("key", [bytes(32), b"short"], ids=["a point of low order", "another length"])
def test_a_key_that_nothing_can_be_sealed_to_gets_no_answer(cluster: HubDirectory, key: bytes) -> None:
    async def run() -> None:
        async with cluster.hub() as hub, cluster.peer("user:admin") as admin, cluster.peer("hub") as owner:
            attack = Attack(cluster, admin, owner)
            await owner.session.publish(
                admin.topics.hub_rpc("user:admin", "apply"), attack.call(answers_to=key),
                response_topic=admin.topics.replies("user:admin", "attack"), correlation=b"1",
            )  # fmt: skip
            await owner.barrier()
            assert await admin.get("Node") == []
            await wait_for_async(lambda: not hub._calls._calls)

    asyncio.run(run())
