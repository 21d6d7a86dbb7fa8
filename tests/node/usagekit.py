"""Usage of a node for tests that are about something else, or that write the kernel's files themselves."""

from pathlib import Path

from edgeagent.api.clock import Clock, SystemClock
from edgeagent.node.usage.reader import PodsInUse, UsageReader
from edgeagent.node.usage.window import UsageWindow
from edgeagent.node.usagereads import UsageReads


def usage_reads(
    *, pods: PodsInUse | None = None, root: Path = Path("/"), clock: Clock | None = None
) -> UsageReads:
    """What node ``n1`` uses, by the files below ``root``."""
    clock = clock or SystemClock()
    return UsageReads(UsageWindow(UsageReader(node="n1", root=root, clock=clock, pods=pods), clock))
