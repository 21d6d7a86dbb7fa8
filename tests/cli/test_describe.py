"""Descriptions in kubectl's layout."""

from datetime import UTC
from typing import Any

import msgspec

from edgeagent.api.clock import rfc3339
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.decode import KubernetesObject, decode_object
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.pod import Pod
from edgeagent.cli.describe import describe, events_of

NOW = 1_700_000_000.0
HOSTILE = "\x1b[2J\x9b \u202e"


def ago(seconds: float) -> str:
    return rfc3339(NOW - seconds)


def told(item: KubernetesObject, **more: Any) -> str:
    return describe(item, now=NOW, timezone=UTC, **more)


def event(
    reason: str, message: str, first: float, last: float | None = None, count: int = 1, **about: str
) -> Event:
    made = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "hello", **about},
            "reason": reason,
            "message": message,
            "type": "Warning" if reason == "BackOff" else "Normal",
            "source": {"component": "edgeagent"},
            "firstTimestamp": ago(first),
            "lastTimestamp": ago(first if last is None else last),
            "count": count,
        }
    )
    assert isinstance(made, Event)
    return made


def a_pod() -> Pod:
    made = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "hello",
                "namespace": "shop",
                "uid": "u1",
                "labels": {"tier": "front", "app": "hello"},
                "annotations": {"note": "one\ntwo"},
            },
            "spec": {
                "nodeName": "n1",
                "hostNetwork": True,
                "containers": [
                    {
                        "name": "web",
                        "image": "busybox:1",
                        "command": ["sh", "-c"],
                        "args": ["echo\nsleep"],
                        "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
                        "resources": {"limits": {"memory": "64Mi", "cpu": 1}},
                        "envFrom": [{"configMapRef": {"name": "settings"}}],
                        "env": [
                            {"name": "MODE", "value": "fast"},
                            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                        ],
                    },
                    {"name": "side", "image": "x"},
                ],
            },
            "status": {
                "phase": "Running",
                "hostIP": "192.0.2.7",
                "podIP": "192.0.2.7",
                "podIPs": [{"ip": "192.0.2.7"}],
                "startTime": "2023-11-14T22:00:00Z",
                "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
                "containerStatuses": [
                    {
                        "name": "web",
                        "containerID": "podman://abc",
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
                        "lastState": {
                            "terminated": {
                                "exitCode": 1,
                                "reason": "Error",
                                "startedAt": "2023-11-14T22:01:00Z",
                                "finishedAt": "2023-11-14T22:01:01Z",
                            }
                        },
                        "restartCount": 2,
                    }
                ],
            },
        }
    )
    assert isinstance(made, Pod)
    return made


POD_TEXT = """\
Name:         hello
Namespace:    shop
Node:         n1/192.0.2.7
Start Time:   Tue, 14 Nov 2023 22:00:00 +0000
Labels:       app=hello
              tier=front
Annotations:  note:
                one
                two
Status:       Running
IP:           192.0.2.7
IPs:
  IP:            192.0.2.7
Host Network:    true
Restart Policy:  Always
Containers:
  web:
    Container ID:  podman://abc
    Image:         busybox:1
    Image ID:
    Ports:         80/TCP, 53/UDP
    Host Ports:    0/TCP, 0/UDP
    Command:
      sh
      -c
    Args:
      echo
      sleep
    State:          Waiting
      Reason:       CrashLoopBackOff
      Message:      back-off 20s
    Last State:     Terminated
      Reason:       Error
      Exit Code:    1
      Started:      Tue, 14 Nov 2023 22:01:00 +0000
      Finished:     Tue, 14 Nov 2023 22:01:01 +0000
    Ready:          False
    Restart Count:  2
    Limits:
      cpu:     1
      memory:  64Mi
    Environment Variables from:
      settings  ConfigMap  Optional: false
    Environment:
      MODE:      fast
      PASSWORD:  <set to the key 'k' in secret 's'>  Optional: false
    Mounts:      <none>
  side:
    Image:        x
    Port:         <none>
    Host Port:    <none>
    Environment:  <none>
    Mounts:       <none>
Conditions:
  Type      Status  Reason              Message
  Ready     False   ContainersNotReady
Volumes:    <none>
QoS Class:  <unknown>
Events:
  Type     Reason   Age               From       Message
  ----     ------   ----              ----       -------
  Normal   Pulled   5m                edgeagent  image is present
  Warning  BackOff  5s (x7 over 60s)  edgeagent  back-off restarting...
"""


def test_a_pod() -> None:
    events = [event("BackOff", "back-off restarting\nit", 60, 5, 7), event("Pulled", "image is present", 300)]
    text = told(a_pod(), events=events)
    assert text == POD_TEXT


def test_a_pod_that_is_going() -> None:
    meta = msgspec.structs.replace(
        a_pod().metadata, deletion_timestamp=ago(-20), deletion_grace_period_seconds=30
    )
    text = told(msgspec.structs.replace(a_pod(), metadata=meta))
    assert "Status:                    Terminating\nTermination Grace Period:  30s\n" in text
    assert text.endswith("Events:     <none>\n")
    meta = msgspec.structs.replace(meta, deletion_timestamp=ago(20))
    assert "Terminating (lasts 20s)" in told(msgspec.structs.replace(a_pod(), metadata=meta))


def test_a_node() -> None:
    node = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n1", "creationTimestamp": "2023-11-14T22:00:00Z"},
            "status": {
                "observedGeneration": 4,
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "lastTransitionTime": "2023-11-14T22:00:00Z",
                        "reason": "Up",
                    }
                ],
                "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}],
                "capacity": {"cpu": "4"},
                "plugins": [
                    {
                        "name": "podman",
                        "distribution": "edgeagent",
                        "version": "0.1",
                        "state": "Backoff",
                        "reason": "no socket",
                    }
                ],
            },
        }
    )
    done = msgspec.structs.replace(a_pod(), status=msgspec.structs.replace(a_pod().status, phase="Succeeded"))
    text = told(node, pods=[a_pod(), done])
    assert "  Ready  True    Tue, 14 Nov 2023 22:00:00 +0000  Up\n" in text
    assert "  podman              0.1      Backoff  thread  no socket\n" in text
    assert "Non-terminated Pods:  (1 in total)\n" in text
    assert "  shop                hello  CrashLoopBackOff  2         <unknown>\n" in text
    assert "Observed Generation:  4\n" in text


def test_a_config_map_shows_its_text() -> None:
    item = decode_object(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c", "namespace": "shop"},
            "data": {"file": "one\n\ttwo"},
            "binaryData": {"blob": "AAEC"},
        }
    )
    assert told(item) == (
        "Name:         c\nNamespace:    shop\nLabels:       <none>\nAnnotations:  <none>\n\n"
        "Data\n====\nfile:\n----\none\n\ttwo\n\n\nBinaryData\n====\nblob: 3 bytes\n\nEvents:  <none>\n"
    )


def test_a_secret_shows_sizes_alone() -> None:
    item = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "namespace": "shop"},
            "data": {"password": "aHVudGVyMg=="},
            "stringData": {"key": "hunter3"},
        }
    )
    assert isinstance(item, Secret)
    text = told(item)
    assert "Type:  Opaque\n\nData\n====\nkey:       7 bytes\npassword:  7 bytes\n" in text
    assert "hunter" not in text
    assert "aHVu" not in text


def test_events_are_those_of_this_very_object() -> None:
    mine, old = event("Pulled", "", 1, uid="u1"), event("Pulled", "", 1, uid="u0")
    other, elsewhere = event("Pulled", "", 1, name="x"), event("Pulled", "", 1, namespace="default")
    unknown = event("Pulled", "", 1)
    assert events_of(a_pod(), [mine, old, other, elsewhere, unknown]) == [mine, unknown]


def test_hostile_text_cannot_drive_the_terminal() -> None:
    pod = a_pod()
    status = msgspec.structs.replace(pod.status, message=HOSTILE, reason=HOSTILE)
    meta = msgspec.structs.replace(pod.metadata, annotations={HOSTILE: HOSTILE * 100}, name=HOSTILE)
    text = told(
        msgspec.structs.replace(pod, status=status, metadata=meta), events=[event("BackOff", HOSTILE, 1)]
    )
    assert text.replace("\n", "").isprintable()
    item = decode_object(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": HOSTILE + "\r\n"}}
    )
    assert told(item).replace("\n", "").isprintable()
