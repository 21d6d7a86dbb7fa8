"""Which logs a question is about: the runs of a pod's containers, found as kubectl and kubelet find them."""

from pathlib import Path

import msgspec

from edgeagent.api.objects.pod import Pod
from edgeagent.api.runtime import ContainerRecord
from edgeagent.node.pods.containers import runs_of
from edgeagent.node.pods.logs import LogError
from edgeagent.node.pods.manager import PodManager
from edgeagent.wire.rpc import LogsParams
from edgeagent.wire.streamapi import FollowParams


class LogRun(msgspec.Struct, frozen=True):
    """One run of a container of a pod, and where its log is."""

    uid: str
    container: str
    record: ContainerRecord

    @property
    def path(self) -> Path:
        """The log's file."""
        return Path(self.record.log_path)


def find_pod(pods: PodManager | None, namespace: str, name: str) -> Pod:
    """The pod; LogError with reason ``NotFound``."""
    pod = pods.find(namespace, name) if pods is not None else None
    if pod is None:
        raise LogError("NotFound", f'pods "{name}" not found')
    return pod


def find_container(pod: Pod, container: str) -> str:
    """The container's name, where it may be left out; LogError where there is none such, or more than one."""
    names = [one.name for one in pod.spec.containers]
    name = container or (names[0] if len(names) == 1 else "")
    if not name:
        raise LogError(
            "BadRequest",
            f"a container name must be specified for pod {pod.metadata.name}, "
            f"choose one of: [{' '.join(names)}]",
        )
    if name not in [*names, *(one.name for one in pod.spec.init_containers)]:
        raise LogError("BadRequest", f"container {name} is not valid for pod {pod.metadata.name}")
    return name


def log_runs(pods: PodManager | None, wanted: LogsParams | FollowParams) -> list[LogRun]:
    """The newest run of each container that is asked for, or the one before it (``previous``).

    Of all containers, those that have no such run are left out, unless none has one. Raises LogError.
    """
    found = find_pod(pods, wanted.namespace, wanted.pod)
    if wanted.all_containers:
        names = [one.name for one in (*found.spec.init_containers, *found.spec.containers)]
    else:
        names = [find_container(found, wanted.container)]
    runs: list[LogRun] = []
    problem: LogError | None = None
    for name in names:
        try:
            runs.append(_run(pods, found, name, wanted.previous))
        except LogError as error:
            problem = problem or error
    if not runs and problem is not None:
        raise problem
    return runs


def begin_of(wanted: LogsParams | FollowParams, now: float) -> float:
    """Since when lines are asked for, in seconds since the epoch; ``now`` by the clock that dates them."""
    return max(wanted.since, now - wanted.since_seconds if wanted.since_seconds else 0)


def _run(pods: PodManager | None, pod: Pod, name: str, previous: bool) -> LogRun:
    records = pods.containers_of(pod.metadata.uid) if pods is not None else []
    runs = [run for run in runs_of(name, records) if run.started_at]
    if previous:
        runs = runs[1:]
    if not runs:
        which = "previous terminated container" if previous else "container"
        raise LogError("BadRequest", f'{which} "{name}" in pod "{pod.metadata.name}" not found')
    if not runs[0].log_path:
        raise LogError("NotFound", "the runtime gives no log file for this container")
    return LogRun(pod.metadata.uid, name, runs[0])
