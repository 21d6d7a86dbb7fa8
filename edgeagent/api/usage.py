"""What the node, its pods and their containers use: counters and amounts, as the kernel counts them.

The core reads them from cgroup files and /proc, without asking the runtime, and hands the same structs to
whoever wants them. Seconds and bytes throughout. Counters only rise while the same container runs. None, or a
list without the entry, is what this kernel does not account for: never a zero that was not measured.
"""

from edgeagent.api.objects.base import KubernetesStruct


class CpuUsage(KubernetesStruct, frozen=True):
    """CPU time in seconds: ``usage`` in all, ``user`` and ``system`` of it.

    ``periods`` of the CFS quota in which something ran, ``throttled_periods`` of them in which the quota ran
    out, ``throttled`` the seconds that tasks then waited: None for what no quota can apply to.
    """

    usage: float
    user: float | None = None
    system: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled: float | None = None


class MemoryUsage(KubernetesStruct, frozen=True):
    """Bytes. ``working_set`` is ``usage`` less inactive file pages: what kubelet evicts and ``top`` shows.

    ``rss`` is anonymous memory, ``cache`` file pages, ``limit`` None where there is none. ``failures`` counts
    how often the limit was met, ``oom_kills`` the processes that the kernel ended for it. ``page_faults`` are
    all, ``major_page_faults`` those that had to read a disk.
    """

    usage: int
    working_set: int
    rss: int | None = None
    cache: int | None = None
    swap: int | None = None
    limit: int | None = None
    failures: int | None = None
    oom_kills: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None


class DeviceUsage(KubernetesStruct, frozen=True):
    """Bytes and operations of a block device: ``sda``, or ``8:0`` where it has no name."""

    device: str
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class PidsUsage(KubernetesStruct, frozen=True):
    """Processes and threads there are, and may be; ``limit`` None where there is none."""

    current: int
    limit: int | None = None


class InterfaceUsage(KubernetesStruct, frozen=True):
    """Counters of a network interface, ``received`` and ``sent`` as those in its namespace see it."""

    interface: str
    received_bytes: int = 0
    received_packets: int = 0
    received_errors: int = 0
    received_drops: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0
    sent_errors: int = 0
    sent_drops: int = 0


class ContainerUsage(KubernetesStruct, frozen=True):
    """A running container: whose it is, and what it uses.

    ``labels`` are the pod's, ``image`` as the pod names it, ``pid`` its main process on the host.
    ``started_at`` in seconds since the epoch: a counter that is lower than before belongs to another start.
    """

    namespace: str
    pod: str
    uid: str
    container: str
    id: str
    image: str = ""
    labels: dict[str, str] = {}
    pid: int = 0
    started_at: float = 0
    restarts: int = 0
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    pids: PidsUsage | None = None
    io: list[DeviceUsage] = []


class PodUsage(KubernetesStruct, frozen=True):
    """A pod of which something runs. ``network`` is empty for one on the host's network."""

    namespace: str
    pod: str
    uid: str
    labels: dict[str, str] = {}
    containers: list[ContainerUsage] = []
    network: list[InterfaceUsage] = []


class MachineUsage(KubernetesStruct, frozen=True):
    """The whole node. ``memory`` is counted as kubelet counts its root cgroup; ``limit`` is what there is."""

    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None


class NodeUsage(KubernetesStruct, frozen=True):
    """One reading. ``time`` in seconds since the epoch, ``monotonic`` in seconds from some start.

    A rate is the difference of two readings by that of their ``monotonic``, whatever the clock was set to.
    """

    node: str
    time: float
    monotonic: float
    machine: MachineUsage = MachineUsage()
    pods: list[PodUsage] = []
