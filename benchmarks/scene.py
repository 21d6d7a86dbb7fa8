"""What most benchmarks need: a cluster with one node and a number of pods, and quiet."""

import compileall
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import agent_containers, children, name_of
from benchmarks.ownnetwork import enter
from tests.support.cluster import AgentProcess, Cluster, container, pod, sleeper
from tests.support.podman import PodmanService
from tests.support.proc import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
NODE = "bench1"
PODS = 10
DNS_SERVER = "unbound"


def progress(text: str) -> None:
    """Say what is being done; not part of the result."""
    print(f"  … {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def scene(
    *, all_plugins: bool = False, extra: str = ""
) -> Iterator[tuple[Cluster, AgentProcess, PodmanService]]:
    """A cluster with one running node, and no pods yet.

    With ``all_plugins`` the node's network is the network plugin's, in a namespace of its own, and there are
    metrics. ``extra`` is more of the node's configuration.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        for tree in ("edgeagent", "plugins"):
            compileall.compile_dir(ROOT / tree, quiet=2)
        progress("starting Podman, the broker, the hub and a node")
        if all_plugins:
            extra = f'[plugins.network]\nnamespace_prefix = "{enter()}"\n{extra}'
            if "[plugins.metrics]" not in extra:
                extra += f'[plugins.metrics]\nlisten = "127.0.0.1:{free_port()}"\n'
        podman = stack.enter_context(PodmanService())
        podman.import_busybox()
        cluster = stack.enter_context(Cluster(directory, podman))
        node = cluster.add_node(NODE, extra=extra)
        config = node.config.read_text().replace('log_level = "debug"', 'log_level = "info"')
        node.config.write_text(config)
        # Asked at the hub: the agent's local API is imported when somebody uses it, and nobody does here.
        node.process.start()
        wait_for(lambda: "Ready" in cluster.ctl("get", "nodes").stdout.split(), 30, "the node to be Ready")
        yield cluster, node, podman


def apply_sleepers(
    cluster: Cluster,
    podman: PodmanService,
    count: int = PODS,
    prefix: str = "idle",
    *,
    host_network: bool = True,
) -> None:
    """Apply ``count`` pods that sleep, and wait until all run."""
    progress(f"applying {count} pods")
    before = len(agent_containers(podman))
    cluster.apply(*(sleeper(f"{prefix}-{index}", NODE, hostNetwork=host_network) for index in range(count)))
    wait_for(lambda: len(agent_containers(podman)) >= before + count, 120, f"{count} containers to run")
    for index in range(count):
        cluster.wait_phase(f"{prefix}-{index}", "Running")


def wait_idle(node: AgentProcess, seconds: float = 90) -> None:
    """Wait until the agent's worker processes have ended for lack of work; the DNS server stays."""
    progress("waiting for the workers to end")
    wait_for(lambda: _only_dns(node), seconds, "the agent to be alone", interval=0.25)


def dns_servers(node: AgentProcess) -> list[int]:
    """The process of the network plugin's DNS server; none where the plugin is off."""
    return [pid for pid in children(node.process.pid) if name_of(pid) == DNS_SERVER]


def _only_dns(node: AgentProcess) -> bool:
    try:
        return len(children(node.process.pid)) == len(dns_servers(node))
    except FileNotFoundError:  # one ended while it was looked at
        return False


__all__ = [
    "NODE",
    "PODS",
    "apply_sleepers",
    "container",
    "dns_servers",
    "pod",
    "progress",
    "scene",
    "wait_idle",
]
