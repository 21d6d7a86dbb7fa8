"""What most benchmarks need: a cluster with one node and a number of pods, and quiet."""

import compileall
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import agent_containers, children
from tests.support.cluster import AgentProcess, Cluster, container, pod, sleeper
from tests.support.podman import PodmanService
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
NODE = "bench1"
PODS = 10


def progress(text: str) -> None:
    """Say what is being done; not part of the result."""
    print(f"  … {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def scene() -> Iterator[tuple[Cluster, AgentProcess, PodmanService]]:
    """A cluster with one running node, and no pods yet."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        for tree in ("edgeagent", "plugins"):
            compileall.compile_dir(ROOT / tree, quiet=2)
        progress("starting Podman, the broker, the hub and a node")
        podman = stack.enter_context(PodmanService())
        podman.import_busybox()
        cluster = stack.enter_context(Cluster(directory, podman))
        node = cluster.add_node(NODE)
        config = node.config.read_text().replace('log_level = "debug"', 'log_level = "info"')
        node.config.write_text(config)
        # Asked at the hub: the agent's local API is imported when somebody uses it, and nobody does here.
        node.process.start()
        wait_for(lambda: "Ready" in cluster.ctl("get", "nodes").stdout.split(), 30, "the node to be Ready")
        yield cluster, node, podman


def apply_sleepers(cluster: Cluster, podman: PodmanService, count: int = PODS, prefix: str = "idle") -> None:
    """Apply ``count`` pods that sleep, and wait until all run."""
    progress(f"applying {count} pods")
    before = len(agent_containers(podman))
    cluster.apply(*(sleeper(f"{prefix}-{index}", NODE) for index in range(count)))
    wait_for(lambda: len(agent_containers(podman)) >= before + count, 120, f"{count} containers to run")
    for index in range(count):
        cluster.wait_phase(f"{prefix}-{index}", "Running")


def wait_idle(node: AgentProcess, seconds: float = 90) -> None:
    """Wait until the agent's worker processes have ended for lack of work."""
    progress("waiting for the workers to end")
    wait_for(lambda: not children(node.process.pid), seconds, "the agent to be alone", interval=0.25)


__all__ = ["NODE", "PODS", "apply_sleepers", "container", "pod", "progress", "scene", "wait_idle"]
