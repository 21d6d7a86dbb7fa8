"""``top``, ``events``, ``logs -l`` and where ``port-forward`` leads, with a hub that follows a script."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edgeagent.api.objects.base import Condition, ObjectMeta, ObjectReference
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import Node, NodeStatus
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.service import Service, ServicePort, ServiceSpec
from edgeagent.cli.ctl.errors import CommandError
from edgeagent.cli.ctl.portforward import _of_pod, _of_service, _parse
from edgeagent.wire.hubapi import GetResult, WatchEvent
from edgeagent.wire.rpc import LogsResult, RpcError
from edgeagent.wire.top import TopResult
from tests.cli.running import Ctl, Watching, a_pod, raw
from tests.cli.scripted import Call, ScriptedHub
from tests.cli.test_top import metrics, node_metrics


def a_node(name: str, *, online: bool = True) -> Node:
    status = NodeStatus(
        conditions=[Condition(type="Ready", status="True" if online else "Unknown")],
        allocatable={"cpu": "2", "memory": "1Gi"},
    )
    return Node(api_version="v1", metadata=ObjectMeta(name=name), status=status)


def placed(name: str, node: str) -> Pod:
    pod = a_pod(name)
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))


def an_event(
    name: str = "hello.1",
    message: str = "Back-off",
    *,
    count: int = 1,
    at: str = "2026-01-01T00:00:00Z",
    type: Any = "Normal",
) -> Event:
    return Event(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="default"),
        involved_object=ObjectReference(kind="Pod", namespace="default", name="hello", uid="u1"),
        reason="BackOff",
        message=message,
        type=type,
        first_timestamp="2026-01-01T00:00:00Z",
        last_timestamp=at,
        count=count,
    )


def answering(
    objects: dict[str, list[Any]], serve: Callable[[Call], None] | None = None
) -> Callable[[Call], None]:
    """``get`` by kind, and ``serve`` for what is for a node."""

    def answer(call: Call) -> None:
        if call.method == "get":
            found = [
                one
                for one in objects.get(call.params["kind"], [])
                if call.params.get("name", one.metadata.name) == one.metadata.name
            ]
            if call.params.get("name") and not found:
                call.fail(RpcError("NotFound", "there is none"))
                return
            call.reply(GetResult(items=[raw(one) for one in found]))
        elif serve is not None:
            serve(call)

    return answer


def test_top_asks_each_node_that_is_there_and_says_who_is_not(ctl: Ctl, config: int) -> None:
    def serve(call: Call) -> None:
        if call.target == "n2":
            call.fail(RpcError("Forbidden", 'user "ann" cannot get resource "nodes/metrics"'))
        else:
            call.reply(TopResult(node=node_metrics(call.target, "500m", "256Mi")))

    nodes = [a_node("n1"), a_node("n2"), a_node("n3", online=False)]
    with ScriptedHub(config, answering({"Node": nodes}, serve)) as hub:
        done = ctl("top", "node", "--sort-by", "cpu")
        assert done.code == 0
        assert done.out.splitlines() == [
            "NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)",
            "n1     500m         25%         256Mi           25%",
            "n2     <unknown>    <unknown>   <unknown>       <unknown>",
            "n3     <unknown>    <unknown>   <unknown>       <unknown>",
        ]
        assert done.err.splitlines() == [
            'Error from server (Forbidden): user "ann" cannot get resource "nodes/metrics"',
            "warning: node n3 is not connected: it cannot be asked",
        ]
        assert sorted(call.target for call in hub.calls if call.method == "top") == ["n1", "n2"]
        done = ctl("top", "node", "n3")
        assert (done.code, done.out) == (1, "")
        assert done.err == "error: node n3 is not connected: it cannot be asked\n"
        found = json.loads(ctl("top", "node", "n1", "-o", "json").out)
        assert (found["kind"], found["usage"]["cpu"]) == ("NodeMetrics", "500m")
        assert json.loads(ctl("top", "no", "-o", "json").out)["kind"] == "NodeMetricsList"
        assert ctl("top", "node", "n9").err == 'Error from server (NotFound): nodes "n9" not found\n'


def test_top_of_pods_asks_the_nodes_that_they_are_on(ctl: Ctl, config: int) -> None:
    def serve(call: Call) -> None:
        assert call.params.get("namespace", "") in ("default", "")
        name = {"n1": "a", "n2": "b"}[call.target]
        found = [metrics(name, ("main", "250m", "64Mi")), metrics("other", ("main", "1", "1Gi"))]
        call.reply(TopResult(pods=found, truncated=call.target == "n2"))

    objects: dict[str, list[Any]] = {
        "Node": [a_node("n1"), a_node("n2"), a_node("n3")],
        "Pod": [placed("a", "n1"), placed("b", "n2"), placed("waiting", "")],
    }
    with ScriptedHub(config, answering(objects, serve)) as hub:
        done = ctl("top", "pod", "-A")
        assert done.out.splitlines() == [
            "NAMESPACE   NAME   CPU(cores)   MEMORY(bytes)",
            "default     a      250m         64Mi",
            "default     b      250m         64Mi",
        ]
        assert done.err == "warning: node n2 has more pods than one answer may tell of\n"
        assert sorted(call.target for call in hub.calls if call.method == "toppods") == ["n1", "n2"]
        assert ctl("top", "pod", "--no-headers", "--containers").out.splitlines()[0].split() == [
            "a", "main", "250m", "64Mi",
        ]  # fmt: skip
        one = json.loads(ctl("top", "pod", "a", "-o", "json").out)
        assert (one["kind"], one["metadata"]["name"]) == ("PodMetrics", "a")
        assert hub.calls[-1].params == {"namespace": "default", "pod": "a"}


def test_events_are_sorted_counted_and_asked_for_by_object(ctl: Ctl, config: int) -> None:
    events = [
        an_event("hello.2", "later", count=3, at="2026-01-01T02:00:00Z", type="Warning"),
        an_event("hello.1", "earlier", at="2026-01-01T01:00:00Z"),
    ]
    with ScriptedHub(config, answering({"Event": events})) as hub:
        lines = ctl("events", "--for", "po/hello").out.splitlines()
        assert hub.calls[-1].params == {
            "kind": "Event",
            "namespace": "default",
            "involvedKind": "Pod",
            "involvedName": "hello",
        }
        assert lines[0].split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        assert [line.split()[-1] for line in lines[1:]] == ["earlier", "later"]
        assert "(x3 over " in lines[2]
        assert "Pod/hello" in lines[2]
        found = json.loads(ctl("get", "events", "-o", "json").out)["items"]
        assert [one["message"] for one in found] == ["earlier", "later"]
        assert ctl("get", "ev", "--types", "warning").out.splitlines()[1:][0].split()[-1] == "later"
        assert len(ctl("events", "--types", "Warning").out.splitlines()) == 2
        assert "COUNT" in ctl("events", "-o", "wide").out


def test_a_watch_of_events_tells_each_repeat_and_not_that_one_was_forgotten(config: int) -> None:
    def answer(call: Call) -> None:
        if call.method == "get":
            call.reply(GetResult(items=[raw(an_event())]))
        elif call.method == "watch":
            assert call.params["involvedKind"] == "Pod"
            changes = [
                ("MODIFIED", an_event(count=2, at="2026-01-01T01:00:00Z")),
                ("DELETED", an_event(count=2, at="2026-01-01T01:00:00Z")),
                ("ADDED", an_event("hello.9", "good", type="Warning")),
                ("ADDED", an_event("hello.8", "new")),
            ]
            for sequence, (kind, event) in enumerate(changes):
                call.reply(WatchEvent(type=kind, object=raw(event)), sequence=sequence, last=False)  # type: ignore[arg-type]

    with (
        ScriptedHub(config, answer),
        Watching("events", "-w", "--for", "pod/hello", "--types", "Normal") as watching,
    ):
        lines = watching.read(4)
        assert [line.split()[-1] for line in lines] == ["MESSAGE", "Back-off", "Back-off", "new"]
        assert "(x2 over " in lines[2]
        watching.interrupt()
    assert watching.code == 130


def test_logs_by_selector_are_the_last_lines_of_each_pod(ctl: Ctl, config: int) -> None:
    def serve(call: Call) -> None:
        call.reply(LogsResult(text=f"{call.params['pod']}\n".encode()))

    with ScriptedHub(config, answering({"Pod": [a_pod("b"), a_pod("a")]}, serve)) as hub:
        assert ctl("logs", "-l", "app=x").out == "a\nb\n"
        assert {call.params.get("tailLines") for call in hub.calls if call.method == "logs"} == {10}
        assert hub.calls[0].params["labels"] == {"app": "x"}
        ctl("logs", "-l", "app=x", "--tail=-1", "--all-containers", "--since-time", "2026-01-01T00:00:00Z")
        assert {k: v for k, v in hub.calls[-1].params.items() if k not in ("namespace", "pod")} == {
            "allContainers": True,
            "since": 1767225600.0,
        }
        ctl("logs", "-l", "app=x", "--since", "1m30s")
        assert hub.calls[-1].params["sinceSeconds"] == 90
        done = ctl("logs", "-f", "-l", "app=x", "--max-log-requests", "1")
        assert (done.code, "use --max-log-requests to increase the limit" in done.err) == (1, True)
    with ScriptedHub(config, answering({})):
        done = ctl("logs", "-l", "app=x")
        assert (done.code, done.err) == (0, "No resources found in default namespace.\n")


def test_logs_that_end_are_read_of_one_pod_after_the_other(ctl: Ctl, config: int) -> None:
    """A selector may find more pods than a node has streams for one operator."""

    def refuse(call: Call) -> None:
        gone = RpcError("NotFound", f"pods {call.params['pod']} not found")
        hub.later(0.3, lambda: call.fail(gone))  # whoever asks for all at once has done so by then

    pods = [a_pod(f"p{number:02}") for number in range(20)]
    with ScriptedHub(config, answering({"Pod": pods}, refuse)) as hub:
        done = ctl("logs", "-l", "app=x", "--prefix")
        assert (done.code, done.err) == (1, "Error from server (NotFound): pods p00 not found\n")
        assert hub.methods() == ["get", "nodekey"]


def test_a_stream_that_the_hub_refuses_is_told_as_any_call(ctl: Ctl, config: int) -> None:
    def refuse(call: Call) -> None:
        call.fail(RpcError("Forbidden", 'user "ann" cannot create resource "pods/exec"'))

    with ScriptedHub(config, answering({"Pod": [a_pod()]}, refuse)):
        for words in (
            ["exec", "hello", "--", "ls"],
            ["logs", "-f", "hello"],
            ["port-forward", "hello", ":80"],
        ):
            done = ctl(*words)
            assert (done.code, done.out) == (1, "")
            assert (
                done.err == 'Error from server (Forbidden): user "ann" cannot create resource "pods/exec"\n'
            )


def test_port_forward_wants_a_pod_that_runs(ctl: Ctl, config: int) -> None:
    def service(name: str, selector: dict[str, str]) -> Service:
        return Service(
            api_version="v1",
            metadata=ObjectMeta(name=name, namespace="default"),
            spec=ServiceSpec(selector=selector, ports=[ServicePort(port=80)]),
        )

    objects: dict[str, list[Any]] = {
        "Pod": [a_pod("waits", phase="Pending")],
        "Service": [service("site", {"app": "web"}), service("outside", {})],
    }
    with ScriptedHub(config, answering(objects)) as hub:
        done = ctl("port-forward", "waits", "80")
        assert done.code == 1
        assert "pod is not running. Current status=Pending; see `edgectl describe pod waits`" in done.err
        assert 'services "absent" not found' in ctl("port-forward", "svc/absent", "80").err
        assert "without a selector: name a pod" in ctl("port-forward", "svc/outside", "80").err
        ctl("port-forward", "svc/site", "80")
        assert hub.calls[-1].params["labels"] == {"app": "web"}
    with ScriptedHub(config, answering({"Service": objects["Service"]})):
        assert "no pod is behind service/site" in ctl("port-forward", "svc/site", "80").err


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("80", (None, 80)), ("8080:80", (8080, 80)), (":80", (0, 80)), ("0:80", (0, 80)),
        ("8080:http", (8080, "http")), ("http", (None, "http")),
    ],
)  # fmt: skip
def test_ports_are_read_as_kubectl_reads_them(word: str, wanted: tuple[int | None, int | str]) -> None:
    assert _parse(word) == wanted


def test_ports_are_found_by_number_and_name() -> None:
    from edgeagent.api.objects.container import Container, ContainerPort

    ports = [
        ContainerPort(container_port=8000, name="http"),
        ContainerPort(container_port=53, protocol="UDP", name="dns"),
    ]
    plain = a_pod()
    pod = msgspec.structs.replace(
        plain,
        spec=msgspec.structs.replace(plain.spec, containers=[Container(name="c", image="x", ports=ports)]),
    )
    assert (_of_pod(pod, "http"), _of_pod(pod, 9)) == (8000, 9)
    service = Service(
        api_version="v1",
        metadata=ObjectMeta(name="site"),
        spec=ServiceSpec(
            ports=[
                ServicePort(port=80, name="web", target_port="http"),
                ServicePort(port=81),
                ServicePort(port=53, protocol="UDP"),
            ]
        ),
    )
    assert [_of_service(service, one) for one in (80, "web", 81)] == ["http", "http", 81]
    wrong: tuple[Callable[[], object], ...] = (
        lambda: _of_pod(pod, "other"), lambda: _of_pod(pod, 53), lambda: _of_service(service, 53),
        lambda: _of_service(service, 82),
    )  # fmt: skip
    for find in wrong:
        with pytest.raises(CommandError):
            find()
