"""``edgectl`` as a process or in this one, and what a hub would answer it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod, PodSpec, PodStatus
from edgeagent.wire.hubapi import WatchEvent

HELLO = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: hello}}
data: {mode: fast}
---
apiVersion: v1
kind: Pod
metadata: {name: hello, labels: {app: hello}}
spec:
  nodeName: n1
  containers: [{name: web, image: busybox}]
"""


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Ctl = Callable[..., Done]
"""``edgectl`` run in this process: its words as arguments."""


def a_pod(name: str = "hello", version: int = 1, phase: Any = "Running", uid: str = "u1") -> Pod:
    """A pod as the hub tells of it."""
    return Pod(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="default", uid=uid, resource_version=str(version)),
        spec=PodSpec(node_name="n1", containers=[Container(name="web", image="x")]),
        status=PodStatus(phase=phase),
    )


def raw(item: object) -> msgspec.Raw:
    """An object as it is in an answer."""
    return msgspec.Raw(msgspec.json.encode(item))


def change(kind: Any, pod: Pod) -> WatchEvent:
    """One event of a watch."""
    return WatchEvent(type=kind, object=raw(pod))


class Watching:
    """``edgectl`` as a process whose output is read line by line."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "edgeagent.cli.edgectl", *words]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors)
        self.code: int | None = None

    def __enter__(self) -> "Watching":
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.code = self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            self._process.stdout.close()
            self._process.stderr.close()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(iter(self._process.stderr.readline, ""))

    @property
    def err(self) -> str:
        """What it has written to its standard error."""
        return "".join(self._errors)

    def read(self, count: int) -> list[str]:
        """The next lines of its output; fewer of them, empty, where it takes too long."""
        assert self._process.stdout is not None
        timer = threading.Timer(20, self._process.kill)
        timer.start()
        try:
            return [self._process.stdout.readline().rstrip("\n") for _ in range(count)]
        finally:
            timer.cancel()

    def interrupt(self) -> None:
        """What ^C does."""
        self._process.send_signal(signal.SIGINT)
