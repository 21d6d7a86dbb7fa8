"""Tables as kubectl prints them, and that no text from afar can drive a terminal."""

import io
import json
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.clock import rfc3339
from edgeagent.api.objects.decode import KubernetesObject, decode_object
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.node import Node
from edgeagent.api.objects.pod import Pod
from edgeagent.cli.output import (
    Table,
    as_list,
    cell,
    escape,
    format_json,
    format_yaml,
    human_duration,
    name_of,
    print_objects,
    wants_colour,
)
from edgeagent.cli.podsummary import summarise_pod
from edgeagent.cli.resources import UnknownKindError, find_resource

NOW = 1_700_000_000.0


def ago(seconds: float) -> str:
    return rfc3339(NOW - seconds)


def pod(name: str = "hello", status: dict[str, Any] | None = None, count: int = 1, **meta: Any) -> Pod:
    made = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "creationTimestamp": ago(312), **meta},
            "spec": {"nodeName": "n1", "containers": [{"name": f"c{i}", "image": "x"} for i in range(count)]},
            "status": status or {},
        }
    )
    assert isinstance(made, Pod)
    return made


def container(
    name: str = "c0", *, ready: bool = False, restarts: int = 0, last: object = None, **state: object
) -> Any:
    made = {"name": name, "ready": ready, "restartCount": restarts, "state": state}
    return made | ({"lastState": {"terminated": last}} if last else {})


RUNNING = container(ready=True, running={"startedAt": ago(10)})
COMPLETED = container("c1", terminated={"exitCode": 0, "reason": "Completed"})
DELETED: dict[str, Any] = {"deletionTimestamp": ago(1)}


def printed(items: list[KubernetesObject], **how: Any) -> str:
    out = io.StringIO()
    print_objects(items, out=out, now=NOW, **how)
    return out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (1, "1s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (312, "5m12s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_799, "7h59m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (273_600, "3d4h"),
        (691_199, "7d23h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_287_999, "7y364d"),
        (252_288_000, "8y"),
        (400_000_000, "12y"),
    ],
)
def test_durations_are_kubectls(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}


@given(st.integers(0, 10**10))
def test_a_duration_is_never_too_long_and_loses_little(seconds: int) -> None:
    import re

    parts = re.findall(r"(\d+)([smhdy])", human_duration(seconds))
    told = sum(int(number) * UNITS[unit] for number, unit in parts)
    assert told <= seconds < told + UNITS[parts[-1][1]]
    assert len(human_duration(seconds)) <= 7
    assert seconds - told <= max(1, seconds * 0.13)


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (pod(), ("0/1", "Pending")),
        (pod(status={"phase": "Running", "containerStatuses": [RUNNING]}), ("1/1", "Running")),
        (
            pod(
                status={
                    "phase": "Pending",
                    "containerStatuses": [container(waiting={"reason": "ErrImagePull"})],
                }
            ),
            ("0/1", "ErrImagePull"),
        ),
        (
            pod(
                count=2,
                status={
                    "phase": "Running",
                    "containerStatuses": [RUNNING, container("c1", waiting={"reason": "CrashLoopBackOff"})],
                },
            ),
            ("1/2", "CrashLoopBackOff"),
        ),
        (pod(status={"phase": "Succeeded", "containerStatuses": [COMPLETED]}), ("0/1", "Completed")),
        (
            pod(
                count=2,
                status={
                    "phase": "Running",
                    "containerStatuses": [COMPLETED, RUNNING],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            ),
            ("1/2", "Running"),
        ),
        (
            pod(count=2, status={"phase": "Running", "containerStatuses": [COMPLETED, RUNNING]}),
            ("1/2", "NotReady"),
        ),
        (
            pod(
                status={
                    "phase": "Failed",
                    "containerStatuses": [container(terminated={"exitCode": 1, "reason": "Error"})],
                }
            ),
            ("0/1", "Error"),
        ),
        (
            pod(status={"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 3})]}),
            ("0/1", "ExitCode:3"),
        ),
        (pod(status={"phase": "Failed", "reason": "Evicted"}), ("0/1", "Evicted")),
        (pod(status={"phase": "Running", "containerStatuses": [RUNNING]}, **DELETED), ("1/1", "Terminating")),
        (pod(status={"phase": "Failed", "reason": "Evicted"}, **DELETED), ("0/1", "Evicted")),
        (pod(status={"phase": "Running", "reason": "NodeLost"}, **DELETED), ("0/1", "Unknown")),
    ],
)
def test_pod_status_is_kubectls(made: Pod, shown: tuple[str, str]) -> None:
    summary = summarise_pod(made)
    assert (f"{summary.ready}/{summary.total}", summary.status) == shown


INIT = {"name": "setup", "image": "x"}
SIDECAR = {"name": "proxy", "image": "x", "restartPolicy": "Always"}
DONE = container("setup", terminated={"exitCode": 0, "reason": "Completed"})
PROXY = {**container("proxy", ready=True, running={"startedAt": ago(10)}), "started": True}
WAITING = container("c0", waiting={"reason": "PodInitializing"})
INITIALIZED = [{"type": "Initialized", "status": "True"}]


def with_inits(inits: list[Any], statuses: list[Any], containers: list[Any], **status: Any) -> Pod:
    made = pod(status={"initContainerStatuses": statuses, "containerStatuses": containers, **status})
    spec = msgspec.convert({**msgspec.to_builtins(made.spec), "initContainers": inits}, type(made.spec))
    return msgspec.structs.replace(made, spec=spec)


@pytest.mark.parametrize(
    ("inits", "statuses", "containers", "shown"),
    [
        # https://kubernetes.io/docs/tasks/debug/debug-application/debug-init-containers/
        ([INIT, INIT], [container("setup", running={"startedAt": ago(1)})], [WAITING], ("0/1", "Init:0/2")),
        ([INIT, INIT], [DONE, container("setup")], [WAITING], ("0/1", "Init:1/2")),
        (
            [INIT, INIT],
            [container("setup", waiting={"reason": "PodInitializing"})],
            [WAITING],
            ("0/1", "Init:0/2"),
        ),
        (
            [INIT],
            [container("setup", terminated={"exitCode": 1, "reason": "Error"})],
            [WAITING],
            ("0/1", "Init:Error"),
        ),
        ([INIT], [container("setup", terminated={"exitCode": 3})], [WAITING], ("0/1", "Init:ExitCode:3")),
        (
            [INIT],
            [container("setup", waiting={"reason": "CrashLoopBackOff"})],
            [WAITING],
            ("0/1", "Init:CrashLoopBackOff"),
        ),
        (
            [INIT],
            [container("setup", waiting={"reason": "ErrImagePull"})],
            [WAITING],
            ("0/1", "Init:ErrImagePull"),
        ),
        ([INIT], [DONE], [WAITING], ("0/1", "PodInitializing")),
        ([INIT], [DONE], [RUNNING], ("1/1", "Running")),
        # A sidecar counts among the containers, and holds the others back until it has started.
        ([SIDECAR], [PROXY], [RUNNING], ("2/2", "Running")),
        ([SIDECAR], [{**PROXY, "ready": False}], [RUNNING], ("1/2", "Running")),
        ([SIDECAR], [{**PROXY, "started": False, "ready": False}], [WAITING], ("0/2", "Init:0/1")),
        ([SIDECAR, INIT], [PROXY, container("setup")], [WAITING], ("1/2", "Init:1/2")),
    ],
)
def test_the_status_of_a_pod_with_init_containers_is_kubectls(
    inits: list[Any], statuses: list[Any], containers: list[Any], shown: tuple[str, str]
) -> None:
    phase = "Running" if containers == [RUNNING] else "Pending"
    summary = summarise_pod(with_inits(inits, statuses, containers, phase=phase))
    assert (f"{summary.ready}/{summary.total}", summary.status) == shown


def test_what_containers_say_counts_again_once_the_pod_was_initialized() -> None:
    """A sidecar that is restarted does not make it look as if the pod initialized anew."""
    restarting = container("proxy", waiting={"reason": "CrashLoopBackOff"})
    made = with_inits([SIDECAR], [restarting], [RUNNING], phase="Running", conditions=INITIALIZED)
    summary = summarise_pod(made)
    assert (summary.ready, summary.total, summary.status) == (1, 2, "Init:CrashLoopBackOff")
    ended = container(terminated={"exitCode": 1, "reason": "Error"})
    made = with_inits([SIDECAR], [restarting], [ended], phase="Running", conditions=INITIALIZED)
    assert summarise_pod(made).status == "Error"


def test_restarts_are_those_of_the_init_containers_and_then_of_sidecars_and_containers() -> None:
    first, second = {"exitCode": 1, "finishedAt": ago(90)}, {"exitCode": 1, "finishedAt": ago(30)}
    setup = container("setup", restarts=4, last=second, running={"startedAt": ago(20)})
    proxy = {**PROXY, "restartCount": 2, "lastState": {"terminated": first}}
    summary = summarise_pod(with_inits([SIDECAR, INIT], [proxy, setup], [WAITING], phase="Pending"))
    assert (summary.restarts, summary.last_restart) == (6, ago(30))
    done = {**setup, "state": DONE["state"]}
    web = container(ready=True, restarts=1, running={"startedAt": ago(10)})
    summary = summarise_pod(with_inits([SIDECAR, INIT], [proxy, done], [web], phase="Running"))
    assert (summary.restarts, summary.last_restart) == (3, ago(90))


def test_an_evicted_pod_is_evicted_whatever_its_containers_ended_with() -> None:
    ended = container(terminated={"exitCode": 137, "reason": "Error"})
    made = pod(status={"phase": "Failed", "reason": "Evicted", "containerStatuses": [ended]})
    assert summarise_pod(made).status == "Evicted"


def test_a_pod_that_initializes_and_goes_is_terminating() -> None:
    made = with_inits([INIT], [container("setup")], [WAITING], phase="Pending")
    meta = msgspec.structs.replace(made.metadata, deletion_timestamp=ago(1))
    assert summarise_pod(msgspec.structs.replace(made, metadata=meta)).status == "Terminating"


def test_pods() -> None:
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": ago(45)}
    status = {
        "phase": "Running",
        "podIP": "10.0.0.7",
        "containerStatuses": [container(ready=True, restarts=3, last=ended, running={"startedAt": ago(40)})],
    }
    items: list[KubernetesObject] = [pod("hello", status), pod("a-much-longer-name")]
    assert printed(items) == (
        "NAME                 READY   STATUS    RESTARTS      AGE\n"
        "hello                1/1     Running   3 (45s ago)   5m12s\n"
        "a-much-longer-name   0/1     Pending   0             5m12s\n"
    )
    assert printed(items, output="wide", with_namespace=True, headers=False) == (
        "default   hello                1/1   Running   3 (45s ago)   5m12s   10.0.0.7   n1\n"
        "default   a-much-longer-name   0/1   Pending   0             5m12s   <none>     n1\n"
    )
    assert printed(items, output="name") == "pod/hello\npod/a-much-longer-name\n"


def test_nodes() -> None:
    node = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "n1",
                "creationTimestamp": ago(3 * 86400),
                "labels": {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/camera": ""},
            },
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [
                    {"type": "Hostname", "address": "n1"},
                    {"type": "InternalIP", "address": "192.0.2.7"},
                ],
                "nodeInfo": {"kubeletVersion": "edgeagent 0.1", "osImage": "Debian", "kernelVersion": "6.1"},
            },
        }
    )
    unknown = decode_object({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}})
    assert isinstance(node, Node)
    offline = msgspec.structs.replace(
        node,
        status=msgspec.convert({"conditions": [{"type": "Ready", "status": "Unknown"}]}, type(node.status)),
    )
    assert printed([node, unknown, offline]) == (
        "NAME   STATUS     ROLES         AGE         VERSION\n"
        "n1     Ready      camera,edge   3d          edgeagent 0.1\n"
        "n2     Unknown    <none>        <unknown>\n"
        "n1     NotReady   camera,edge   3d\n"
    )
    assert printed([node], output="wide").splitlines()[0] == (
        "NAME   STATUS   ROLES         AGE   VERSION         "
        "INTERNAL-IP   OS-IMAGE   KERNEL-VERSION   CONTAINER-RUNTIME"
    )


def test_several_kinds_are_tables_of_their_own_with_the_kind_in_the_name() -> None:
    meta = {"name": "s", "namespace": "default", "creationTimestamp": ago(5)}
    config = decode_object(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": meta,
            "data": {"a": "b"},
            "binaryData": {"c": ""},
        }
    )
    secret = decode_object({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"a": ""}})
    assert printed([pod(), config, secret], with_namespace=True) == (
        "NAMESPACE   NAME        READY   STATUS    RESTARTS   AGE\n"
        "default     pod/hello   0/1     Pending   0          5m12s\n"
        "\n"
        "NAMESPACE   NAME          DATA   AGE\n"
        "default     configmap/s   2      5s\n"
        "\n"
        "NAMESPACE   NAME       TYPE     DATA   AGE\n"
        "default     secret/s   Opaque   1      5s\n"
    )


def event(message: str, seconds: float, **more: object) -> Event:
    made = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "hello"},
            "reason": "Pulled",
            "message": message,
            "lastTimestamp": ago(seconds),
            **more,
        }
    )
    assert isinstance(made, Event)
    return made


def test_events_by_time_with_messages_cut_at_their_first_line() -> None:
    items: list[KubernetesObject] = [
        event("new", 3),
        event(" first\nsecond ", 90, type="Warning"),
        event("", 30),
    ]
    assert printed(items) == (
        "LAST SEEN   TYPE      REASON   OBJECT      MESSAGE\n"
        "90s         Warning   Pulled   pod/hello   first...\n"
        "30s         Normal    Pulled   pod/hello\n"
        "3s          Normal    Pulled   pod/hello   new\n"
    )


def test_one_object_or_a_list() -> None:
    one = pod()
    assert json.loads(printed([one], output="json", single=True))["metadata"]["name"] == "hello"
    assert yaml.safe_load(printed([one], output="yaml", single=True))["kind"] == "Pod"
    listed = json.loads(printed([one, one], output="json"))
    assert (listed["apiVersion"], listed["kind"], len(listed["items"])) == ("v1", "List", 2)
    assert json.loads(printed([], output="json")) == as_list([]) == yaml.safe_load(printed([], output="yaml"))
    assert printed([one], output="json", single=True).startswith(
        '{\n    "apiVersion": "v1",\n    "kind": "Pod",\n'
    )
    assert printed([]) == ""


def test_a_watch_keeps_to_its_columns() -> None:
    table = Table(find_resource("po"))
    assert table.lines([pod("a-long-name")], NOW)[1] == "a-long-name   0/1     Pending   0          5m12s"
    assert table.lines([pod("b")], NOW) == ["b             0/1     Pending   0          5m12s"]


@pytest.mark.parametrize("word", ["po", "pod", "pods", "Pod", "PODS"])
def test_kinds_have_short_names(word: str) -> None:
    assert find_resource(word).kind == "Pod"


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(
        UnknownKindError, match="doesn't have a resource type 'deploy', only pods, configmaps"
    ):
        find_resource("deploy")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def test_colour_on_terminals_only_and_not_where_it_is_unwanted() -> None:
    assert wants_colour(Terminal(), {"TERM": "xterm"})
    assert not wants_colour(io.StringIO(), {"TERM": "xterm"})
    assert not wants_colour(Terminal(), {"NO_COLOR": "1"})
    assert not wants_colour(Terminal(), {"TERM": "dumb"})
    status = {"phase": "Running", "containerStatuses": [container(waiting={"reason": "CrashLoopBackOff"})]}
    plain, toned = (printed([pod(status=status)], colour=colour) for colour in (False, True))
    assert "\x1b[31mCrashLoopBackOff\x1b[0m   0" in toned
    initializing = with_inits([INIT], [container("setup")], [WAITING], phase="Pending")
    assert "\x1b[33mInit:0/1\x1b[0m" in printed([initializing], colour=True)
    assert toned.replace("\x1b[31m", "").replace("\x1b[0m", "") == plain


HOSTILE = "\x1b]0;owned\x07 \x9b2J \u202e \u2028 \x7f \x85"


def test_hostile_text_is_escaped() -> None:
    assert escape("a\x1bb\x9b\u202e\U000e0001\t") == "a\\x1bb\\x9b\\u202e\\U000e0001\\t"
    assert escape("ein süßes 日本 text") == "ein süßes 日本 text"
    assert cell("one\rtwo") == "one..."


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_no_format_lets_hostile_text_through(output: str) -> None:
    bad = pod(
        labels={"a": HOSTILE}, annotations={HOSTILE: f"two\nlines {HOSTILE}"}, status={"reason": HOSTILE}
    )
    bad = msgspec.structs.replace(bad, metadata=msgspec.structs.replace(bad.metadata, name=HOSTILE))
    text = printed([bad, event(HOSTILE, 1)], output=output)
    assert text.replace("\n", "").isprintable()
    if output in ("json", "yaml"):
        read = json.loads(text) if output == "json" else yaml.safe_load(text)
        assert read["items"][0]["metadata"]["labels"]["a"] == HOSTILE
    assert name_of(bad).isprintable()


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_json_and_yaml_are_printable_and_faithful(data: dict[str, str]) -> None:
    for text, read in ((format_json(data), json.loads), (format_yaml(data), yaml.safe_load)):
        assert text.replace("\n", "").isprintable()
        assert read(text) == data


@given(st.text())
def test_cells_are_one_printable_line(text: str) -> None:
    assert cell(text).isprintable()


def test_text_of_several_lines_is_a_block_in_yaml() -> None:
    assert format_yaml({"a": "one\ntwo\n"}) == "a: |\n  one\n  two\n"
