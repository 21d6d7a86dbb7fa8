"""Pods with volumes, and looking at these from inside their containers."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.lone import LoneAgent, is_running, static_pod

Fields = dict[str, Any]


def mount(*arguments: str | Path) -> None:
    """Run the program of that name."""
    subprocess.run(["mount", *arguments], check=True)


def mounting(name: str, *mounts: Fields, container: Fields | None = None, **volumes: Fields) -> Fields:
    """A pod with ``volumes`` by name; each is seen at ``/<name>`` unless ``mounts`` say where."""
    seen = mounts or tuple({"name": volume, "mountPath": f"/{volume}"} for volume in volumes)
    listed = [{"name": volume, **source} for volume, source in volumes.items()]
    return static_pod(name, container={"volumeMounts": list(seen), **(container or {})}, volumes=listed)


def read(lone: LoneAgent, pod: str, path: str, container: str = "main") -> str:
    """What a file holds for a container."""
    return lone.exec(pod, "cat", path, container=container).stdout


def mode(lone: LoneAgent, pod: str, path: str) -> str:
    """A file's mode as a container sees it, in octal; links are followed."""
    return lone.exec(pod, "stat", "-L", "-c", "%a", path).stdout.strip()


def names(lone: LoneAgent, pod: str, folder: str) -> list[str]:
    """What a container sees in a folder, but for hidden names."""
    return lone.exec(pod, "ls", folder).stdout.split()


def refusal(lone: LoneAgent, pod: str, *command: str) -> str:
    """What a command that must fail writes to standard error."""
    found = lone.exec(pod, *command, check=False)
    assert found.returncode != 0
    return found.stderr


def fails_to_mount(lone: LoneAgent, pod: str) -> Callable[[Fields], bool]:
    """Whether the pod is kept from running, by an event ``FailedMount``."""
    return lambda status: (
        not is_running(status) and "FailedMount" in {event["reason"] for event in lone.events(pod)}
    )


def failed_mounts(lone: LoneAgent, pod: str) -> str:
    """What the events ``FailedMount`` of a pod say."""
    return "\n".join(event["message"] for event in lone.events(pod) if event["reason"] == "FailedMount")


def waits_for(reason: str) -> Callable[[Fields], bool]:
    """Whether a container waits for this reason."""
    return lambda status: any(
        (one["state"].get("waiting") or {}).get("reason") == reason
        for one in status.get("containerStatuses", [])
    )
