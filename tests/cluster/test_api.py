"""The operators' calls, through the broker."""

import asyncio
import base64
import contextlib
import time
from typing import Any

import msgspec
import pytest

from edgeagent.api.objects.base import Condition, ObjectMeta, ObjectReference
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import NodeStatus
from edgeagent.api.objects.pod import PodStatus
from edgeagent.wire.noderequest import open_request
from edgeagent.wire.operatorcalls import read_call
from edgeagent.wire.reports import EventReport, PodReport
from edgeagent.wire.rpc import LogsResult, NetworkResult, encode_reply
from tests.support.hubrun import HubDirectory, Peer, config_map, pod, secret
from tests.support.waiting import wait_for_async


@contextlib.asynccontextmanager
async def _running(cluster: HubDirectory) -> Any:
    cluster.add_node("gw-1")
    async with cluster.hub() as hub, cluster.peer("user:admin") as admin, cluster.peer("gw-1") as node:
        yield hub, admin, node


async def _ready(node: Peer, generation: int, session: int = 1) -> None:
    ready = Condition(type="Ready", status="True", reason="AgentReady")
    await node.report(
        node.topics.status(node.name), NodeStatus(observed_generation=generation, conditions=[ready])
    )
    await node.online(session)


def test_apply_creates_configures_and_leaves_alone(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            assert await admin.apply(pod("web", "gw-1"), secret("login", A="b")) == ["created", "created"]
            first = await admin.get("Pod", "web", "default")
            assert await admin.apply(pod("web", "gw-1"), secret("login", A="b")) == ["unchanged"] * 2
            assert await admin.get("Pod", "web", "default") == first
            changed = pod("web", "gw-1", restartPolicy="Never")
            assert await admin.apply(changed, dry_run=True) == ["configured"]
            assert await admin.get("Pod", "web", "default") == first
            assert await admin.apply(changed) == ["configured"]
            labelled = pod("web", "gw-1", restartPolicy="Never")
            labelled["metadata"]["labels"] = {"app": "web"}
            labelled["status"] = {"phase": "Running"}
            assert await admin.apply(labelled) == ["configured"]
            last = await admin.get("Pod", "web", "default")
            assert last["metadata"]["uid"] == first["metadata"]["uid"]
            assert last["metadata"]["generation"] == 2
            assert int(last["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
            assert last["status"] == {"phase": "Pending"}
            assert (await admin.get("Secret", "login", "default"))["data"] == {
                "A": base64.b64encode(b"<redacted: 1 bytes>").decode()
            }
            # What `get` gave can be applied again; what has changed meanwhile cannot.
            assert await admin.apply(last) == ["unchanged"]
            assert (await admin.failure("apply", {"objects": [first]})).reason == "Conflict"
            assert await admin.get("Pod", labels={"app": "other"}) == []
            assert len(await admin.get("Pod", labels={"app": "web"})) == 1

    asyncio.run(run())


def test_no_answer_holds_a_value_of_a_secret_and_none_is_lost_by_applying_one(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            value = "a-value-that-nobody-sees"
            manifest = secret("login", TOKEN=value)
            kept = {"kubectl.kubernetes.io/last-applied-configuration": value, "note": "mine"}
            manifest["metadata"]["annotations"] = kept
            assert await admin.apply(manifest) == ["created"]
            shown = await admin.get("Secret", "login", "default")
            assert base64.b64decode(shown["data"]["TOKEN"]) == b"<redacted: 24 bytes>"
            assert shown["metadata"]["annotations"] == {"note": "mine"}
            assert await admin.get("Secret") == [shown]
            refused = await admin.failure("apply", {"objects": [shown]})
            assert refused.reason == "Invalid"
            assert "Secret default/login" in str(refused)
            assert "data.TOKEN: holds the mark of a redacted value" in str(refused)
            assert await admin.apply(manifest) == ["unchanged"]
            assert await admin.apply(secret("login", TOKEN=value)) == ["configured"]
            assert await admin.get("Secret", "login", "default") != shown

    asyncio.run(run())


_NO_NAMESPACE = pod("web", "gw-1")
del _NO_NAMESPACE["metadata"]["namespace"]
_UNKNOWN = pod("web", "gw-1", diskSize=[])
_ILL_TYPED = pod("web", "gw-1", hostNetwork="yes")
_NO_NODE = pod("web", "")
_BAD_NAME = pod("Web", "gw-1")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (_NO_NAMESPACE, ["Pod web", "metadata.namespace: required"]),
        (_UNKNOWN, ["Pod default/web", "spec.diskSize: unknown field"]),
        (_ILL_TYPED, ["spec.hostNetwork: expected bool"]),
        (_NO_NODE, ["Pod default/web", "spec.nodeName: required"]),
        (pod("web", "gw-9"), ["spec.nodeName", "'gw-9'", "known: gw-1", "edgehub node add gw-9"]),
        (_BAD_NAME, ["metadata.name"]),
        (
            config_map("bad key", **{}) | {"metadata": {"name": "x", "namespace": "a/b"}},
            ["metadata.namespace"],
        ),
        ({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n"}}, ["kind", "Node cannot be applied"]),
        ({"kind": "Deployment"}, ["unknown kind 'Deployment'"]),
        ({"metadata": {}}, ["kind: required"]),
        (config_map("c", A="x" * 1_600_000), ["document 2", "ConfigMap default/c"]),
        (config_map("good"), ["ConfigMap default/good is there twice, as documents 1 and 2"]),
    ],
)
def test_one_bad_document_refuses_all_of_them(cluster: HubDirectory, broken: Any, words: list[str]) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            error = await admin.failure("apply", {"objects": [config_map("good"), broken]})
            assert error.reason == "Invalid"
            for word in words:
                assert word in str(error)
            assert await admin.get("ConfigMap") == []

    asyncio.run(run())


def test_calls_that_make_no_sense_are_refused_with_the_reason(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            for method, params, reason, words in (
                ("dance", {}, "Invalid", "unknown method 'dance'"),
                ("get", {"kind": "Pod", "colour": 1}, "Invalid", "colour: unknown field"),
                ("get", {}, "Invalid", "kind: required"),
                ("get", {"kind": "Unicorn"}, "Invalid", "unknown kind"),
                ("get", {"kind": "Pod", "name": "x"}, "NotFound", 'pods "x" not found'),
                ("watch", {"kind": "Unicorn"}, "Invalid", "unknown kind"),
                ("watch", {"kind": "Pod", "timeoutSeconds": 0}, "Invalid", "timeoutSeconds"),
                ("delete", {"kind": "Pod", "namespace": "default", "name": "x"}, "NotFound", 'pods "x"'),
                ("delete", {"kind": "Node", "namespace": "", "name": "gw-1"}, "Invalid", "cannot be deleted"),
                ("logs", {"namespace": "default", "pod": "x"}, "NotFound", 'pods "x" not found'),
            ):
                target = "gw-1" if method == "logs" else "hub"
                error = await admin.failure(method, params, target=target)
                assert (error.reason, words in str(error)) == (reason, True), str(error)
            deep = msgspec.Raw(b"[" * 5000 + b"]" * 5000)
            assert (await admin.failure("apply", {"objects": [deep]})).reason == "Invalid"
            assert (await admin.failure("get", [1, 2])).reason == "Invalid"

    asyncio.run(run())


def test_a_pod_does_not_move_and_what_is_immutable_stays(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            cluster.add_node("gw-2")
            frozen = config_map("c", A="1") | {"immutable": True}
            await admin.apply(pod("web", "gw-1"), frozen)
            moved = await admin.failure("apply", {"objects": [pod("web", "gw-2")]})
            assert moved.reason == "Invalid"
            assert "spec.nodeName: may not change" in str(moved)
            assert "delete the Pod and create it again" in str(moved)
            changed = config_map("c", A="2") | {"immutable": True}
            assert "immutable" in str(await admin.failure("apply", {"objects": [changed]}))

    asyncio.run(run())


def test_what_nodes_report_is_seen_and_stays_while_they_are_away(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, node):
            condition = (await admin.get("Node", "gw-1"))["status"]["conditions"][0]
            assert (condition["status"], condition["reason"]) == ("Unknown", "NodeStatusNeverUpdated")
            await admin.apply(pod("web", "gw-1"))
            uid = (await admin.get("Pod", "web"))["metadata"]["uid"]
            await _ready(node, 2, session=5)
            await node.pod("web", PodReport(uid="another", generation=1, status=PodStatus(phase="Failed")))
            assert (await admin.get("Pod", "web"))["status"] == {"phase": "Pending"}
            await node.pod("web", PodReport(uid=uid, generation=1, status=PodStatus(phase="Running")))

            async def phase(expected: str) -> bool:
                return bool((await admin.get("Pod", "web"))["status"]["phase"] == expected)

            async def ready(expected: str) -> bool:
                conditions = (await admin.get("Node", "gw-1"))["status"]["conditions"]
                return bool(conditions[-1]["status"] == expected)

            await wait_for_async(lambda: phase("Running"))
            await wait_for_async(lambda: ready("True"))
            await node.online(4, online=False)  # the late will of an older session
            await node.pod("other", None)
            await node.barrier()
            assert await ready("True")
            await node.online(5, online=False)
            await wait_for_async(lambda: ready("Unknown"))
            conditions = (await admin.get("Node", "gw-1"))["status"]["conditions"]
            assert conditions[-1]["reason"] == "NodeOffline"
            assert await phase("Running")
            # Rubbish changes nothing.
            for topic in (node.topics.status("gw-1"), node.topics.online("gw-1"), node.topics.events("gw-1")):
                await node.session.publish(topic, b"{broken")
            await node.session.publish(node.topics.pod("gw-1", "default", "web"), b"\xff")
            assert await phase("Running")

    asyncio.run(run())


def test_a_deleted_pod_goes_when_its_node_says_so(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, node):
            await admin.apply(pod("web", "gw-1"))
            uid = (await admin.get("Pod", "web"))["metadata"]["uid"]
            await _ready(node, (await node.generation(2)).generation)
            report = PodReport(uid=uid, generation=1, status=PodStatus(phase="Running"))
            await node.pod("web", report)
            target = {"kind": "Pod", "namespace": "default", "name": "web"}
            answer = await admin.call("delete", target | {"gracePeriodSeconds": 5})
            assert answer == {"state": "terminating", "uid": uid}
            index = await node.generation(3)
            assert index.objects == []
            meta = (await admin.get("Pod", "web"))["metadata"]
            assert meta["deletionTimestamp"]
            assert meta["deletionGracePeriodSeconds"] == 5
            again = await admin.failure("apply", {"objects": [pod("web", "gw-1")]})
            assert again.reason == "Conflict"
            # The node has switched, but is still stopping it.
            await _ready(node, index.generation)
            await node.barrier()
            assert (await admin.call("delete", target))["state"] == "terminating"
            await node.pod("web", None)

            async def gone() -> bool:
                return not await admin.get("Pod")

            await wait_for_async(gone)
            assert await admin.apply(pod("web", "gw-1")) == ["created"]
            assert (await admin.get("Pod", "web"))["metadata"]["uid"] != uid
            assert (await admin.call("delete", target | {"force": True}))["state"] == "deleted"
            assert await admin.get("Pod") == []
            await admin.apply(config_map("c"))
            answer = await admin.call("delete", {"kind": "ConfigMap", "namespace": "default", "name": "c"})
            assert answer["state"] == "deleted"

    asyncio.run(run())


def test_a_deleted_pod_goes_though_the_hub_was_away_when_its_node_said_so(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, node):
            await admin.apply(pod("web", "gw-1"))
            uid = (await admin.get("Pod", "web"))["metadata"]["uid"]
            await node.pod("web", PodReport(uid=uid, generation=1, status=PodStatus(phase="Running")))
            await admin.call("delete", {"kind": "Pod", "namespace": "default", "name": "web"})
            generation = (await node.generation(3)).generation
        async with cluster.peer("gw-1") as node:
            await node.pod("web", None)
            await _ready(node, generation)
        async with cluster.hub(), cluster.peer("user:admin") as admin:

            async def gone() -> bool:
                return not await admin.get("Pod")

            await wait_for_async(gone)

    asyncio.run(run())


def test_a_watch_shows_what_is_and_what_changes_until_it_is_cancelled(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            await admin.apply(config_map("a", X="1"), pod("web", "gw-1"))
            seen: list[tuple[str, str]] = []

            async def follow() -> None:
                params = {"kind": "ConfigMap", "namespace": "default", "timeoutSeconds": 60}
                async for reply in admin.stream("watch", params, correlation=b"mine"):
                    event = msgspec.json.decode(reply.result)
                    if event is not None:
                        seen.append((event["type"], event["object"]["metadata"]["name"]))

            task = asyncio.create_task(follow())
            await wait_for_async(lambda: seen == [("ADDED", "a")])
            await admin.apply(config_map("b"), config_map("a", X="2"), config_map("c", "elsewhere"))
            await admin.call("delete", {"kind": "ConfigMap", "namespace": "default", "name": "a"})
            await wait_for_async(lambda: len(seen) >= 3 and seen[-1] == ("DELETED", "a"))
            assert ("ADDED", "b") in seen
            assert all(name != "c" for _, name in seen)
            await admin.send("cancel", {}, correlation=b"mine")
            await asyncio.wait_for(task, 10)
            # One that nobody ends, ends by itself.
            last = [r async for r in admin.stream("watch", {"kind": "Secret", "timeoutSeconds": 1})]
            assert [bytes(r.result) for r in last] == [b"null"]

    asyncio.run(run())


def test_watches_are_bounded(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, _node):
            for number in range(16):
                await admin.send("watch", {"kind": "Pod"}, correlation=b"%d" % number)
            assert (await admin.failure("watch", {"kind": "Pod"})).reason == "TooManyRequests"

    asyncio.run(run())


def test_more_than_a_packet_holds_comes_in_several_answers(stopped_cluster: HubDirectory) -> None:
    stopped_cluster.configure(max_packet_size="20000")
    stopped_cluster.start_broker()

    async def run() -> None:
        async with _running(stopped_cluster) as (_, admin, _node):
            for start in range(0, 100, 20):
                await admin.apply(
                    *(config_map(f"c-{n:03}", TEXT="x" * 500) for n in range(start, start + 20))
                )
            parts = [r async for r in admin.stream("get", {"kind": "ConfigMap"})]
            assert len(parts) > 2
            names = [one["metadata"]["name"] for one in await admin.get("ConfigMap")]
            assert names == [f"c-{n:03}" for n in range(100)]

    asyncio.run(run())


def test_a_network_is_asked_of_the_node_in_a_signed_request(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, node):
            params = {"what": "drops"}
            for asked, target, reason in (
                (params, "gw-1", "NodeOffline"), (params, "nobody", "NotFound"), (params, "hub", "Invalid"),
                ({"what": "secrets"}, "gw-1", "Invalid"),
            ):  # fmt: skip
                assert (await admin.failure("network", asked, target=target)).reason == reason
            await _ready(node, 1)
            topic = node.topics.node_rpc("gw-1", "network")
            await node.session.subscribe([topic])

            async def answer() -> None:
                await wait_for_async(lambda: topic in node.retained)
                message = node.messages[-1]
                request, _ = open_request(
                    message.payload, cluster.joins["gw-1"].trust, node="gw-1", method="network",
                    now=time.time(),
                )  # fmt: skip
                asked = read_call(request.call)
                assert (asked.user, msgspec.json.decode(asked.params)) == ("user:admin", params)
                result = NetworkResult(rows=[{"port": "80/TCP"}])
                await node.session.publish(
                    asked.reply_topic, encode_reply(result), correlation=message.correlation
                )

            answering = asyncio.create_task(answer())
            result = await admin.call("network", params, target="gw-1")
            await answering
            assert msgspec.convert(result, NetworkResult).rows == [{"port": "80/TCP"}]

    asyncio.run(run())


def test_logs_are_asked_of_the_node_in_a_signed_request(cluster: HubDirectory) -> None:
    async def run() -> None:
        async with _running(cluster) as (_, admin, node):
            prepare = {"name": "prepare", "image": "localhost/x"}
            await admin.apply(pod("web", "gw-1", initContainers=[prepare]))
            params = {"namespace": "default", "pod": "web", "tailLines": 5}
            for asked in (params, params | {"container": "prepare"}):
                offline = await admin.failure("logs", asked, target="gw-1")
                assert offline.reason == "NodeOffline"
                assert "gw-1" in str(offline)
            await _ready(node, 1)
            wrong = await admin.failure("logs", params | {"container": "nope"}, target="gw-1")
            assert wrong.reason == "Invalid"
            cluster.add_node("gw-2")
            elsewhere = await admin.failure("logs", params, target="gw-2")
            assert str(elsewhere) == "pod web is on node gw-1, not on gw-2"
            topic = node.topics.node_rpc("gw-1", "logs")
            await node.session.subscribe([topic])

            async def answer() -> None:
                await wait_for_async(lambda: topic in node.retained)
                message = node.messages[-1]
                request, _ = open_request(
                    message.payload, cluster.joins["gw-1"].trust, node="gw-1", method="logs",
                    now=time.time(),
                )  # fmt: skip
                asked = read_call(request.call)
                assert msgspec.json.decode(asked.params) == params
                assert asked.reply_topic == message.response_topic
                reply = encode_reply(LogsResult(text=b"hello\n"))
                await node.session.publish(asked.reply_topic, reply, correlation=message.correlation)

            answering = asyncio.create_task(answer())
            result = await admin.call("logs", params, target="gw-1")
            await answering
            assert msgspec.convert(result, LogsResult).text == b"hello\n"

    asyncio.run(run())


def test_events_are_kept_once_and_name_their_node(cluster: HubDirectory) -> None:
    def report(sequence: int, name: str) -> EventReport:
        event = Event(
            api_version="v1",
            metadata=ObjectMeta(name=name),
            involved_object=ObjectReference(kind="Pod", namespace="default", name="web"),
            reason="Started",
            message=name,
        )
        return EventReport(stream="s", sequence=sequence, event=event)

    async def run() -> None:
        async with _running(cluster) as (hub, admin, node):
            for sequence, name in ((1, "web.1"), (1, "web.1"), (2, "web.2")):
                await node.report(node.topics.events("gw-1"), report(sequence, name))

            async def names() -> list[str]:
                return [one["metadata"]["name"] for one in await admin.get("Event", namespace="default")]

            await wait_for_async(names)
            assert await names() == ["web.1", "web.2"]
            assert (await admin.get("Event"))[0]["source"] == {"host": "gw-1"}
            del hub
        # The hub is away: the broker keeps what the node says for it.
        async with cluster.peer("gw-1") as node:
            payload = msgspec.json.encode(report(3, "web.3"))
            await node.session.publish(node.topics.events("gw-1"), payload)
        async with cluster.hub(), cluster.peer("user:admin") as admin:

            async def three() -> bool:
                return len(await admin.get("Event")) == 3

            await wait_for_async(three)

    asyncio.run(run())
