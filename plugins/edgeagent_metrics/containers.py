"""Containers and pods under the names of cAdvisor, as kubelet serves them at ``/metrics/cadvisor``.

https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md. Labels too are kubelet's: ``id`` is
``/`` for the machine, else made of the pod's uid and the container's id; a pod's network is that of its
container ``POD``.
"""

from edgeagent.api.usage import ContainerUsage, CpuUsage, MemoryUsage, NodeUsage, PodUsage
from edgeagent_metrics.page import Page

MACHINE = {"container": "", "id": "/", "image": "", "name": "", "namespace": "", "pod": ""}
"""The labels of the whole machine."""


def containers(usage: NodeUsage, page: Page) -> None:
    """``container_*``, of the machine, of each running container, and of each pod's network."""
    machine = usage.machine
    _cpu(page, machine.cpu, MACHINE)
    _memory(page, machine.memory, MACHINE)
    for pod in usage.pods:
        for container in pod.containers:
            _container(page, container, usage.time)
        _network(page, pod)


def kubelet(usage: NodeUsage, page: Page) -> None:
    """The few of kubelet's own metrics that mean the same here."""
    page.gauge("kubelet_node_name", "The node's name. The count is always 1.", 1, {"node": usage.node})
    page.gauge("kubelet_running_pods", "Number of pods that have a running container", len(usage.pods))
    page.gauge(
        "kubelet_running_containers",
        "Number of containers currently running",
        sum(len(pod.containers) for pod in usage.pods),
        {"container_state": "running"},
    )


def _container(page: Page, one: ContainerUsage, now: float) -> None:
    labels = {
        "container": one.container,
        "id": f"/kubepods/pod{one.uid}/{one.id}",
        "image": one.image,
        "name": one.id,
        "namespace": one.namespace,
        "pod": one.pod,
    }
    if one.cpu is None and one.memory is None and one.pids is None:
        return  # it has ended since it was last seen
    page.gauge("container_last_seen", "Last time a container was seen by the exporter", now, labels)
    page.gauge(
        "container_start_time_seconds",
        "Start time of the container since unix epoch in seconds.",
        one.started_at,
        labels,
    )
    _cpu(page, one.cpu, labels)
    _memory(page, one.memory, labels)
    if one.memory is not None:
        page.gauge(
            "container_spec_memory_limit_bytes",
            "Memory limit for the container.",
            one.memory.limit or 0,
            labels,
        )
    if one.pids is not None:
        page.gauge(
            "container_threads",
            "Number of threads running inside the container",
            one.pids.current,
            labels,
        )
        page.gauge(
            "container_threads_max",
            "Maximum number of threads allowed inside the container, infinity if value is zero",
            one.pids.limit or 0,
            labels,
        )
    for device in one.io:
        by_device = {**labels, "device": f"/dev/{device.device}"}
        for name, help, value in (
            ("reads_bytes", "Cumulative count of bytes read", device.read_bytes),
            ("reads", "Cumulative count of reads completed", device.reads),
            ("writes_bytes", "Cumulative count of bytes written", device.written_bytes),
            ("writes", "Cumulative count of writes completed", device.writes),
        ):
            page.counter(f"container_fs_{name}_total", help, value, by_device)


def _cpu(page: Page, cpu: CpuUsage | None, labels: dict[str, str]) -> None:
    if cpu is None:
        return
    page.counter(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        cpu.usage,
        {**labels, "cpu": "total"},
    )
    for name, help, value in (
        ("user_seconds", "Cumulative user cpu time consumed in seconds.", cpu.user),
        ("system_seconds", "Cumulative system cpu time consumed in seconds.", cpu.system),
        ("cfs_periods", "Number of elapsed enforcement period intervals.", cpu.periods),
        ("cfs_throttled_periods", "Number of throttled period intervals.", cpu.throttled_periods),
        (
            "cfs_throttled_seconds",
            "Total time duration the container has been throttled.",
            cpu.throttled,
        ),
    ):
        if value is not None:
            page.counter(f"container_cpu_{name}_total", help, value, labels)


def _memory(page: Page, memory: MemoryUsage | None, labels: dict[str, str]) -> None:
    if memory is None:
        return
    for name, help, value in (
        (
            "usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            memory.usage,
        ),
        ("working_set_bytes", "Current working set in bytes.", memory.working_set),
        ("rss", "Size of RSS in bytes.", memory.rss),
        ("cache", "Number of bytes of page cache memory.", memory.cache),
        ("swap", "Container swap usage in bytes.", memory.swap),
    ):
        if value is not None:
            page.gauge(f"container_memory_{name}", help, value, labels)
    if memory.failures is not None:
        page.counter(
            "container_memory_failcnt",
            "Number of memory usage hits limits",
            memory.failures,
            labels,
        )
    if memory.oom_kills is not None:
        page.counter(
            "container_oom_events_total",
            "Count of out of memory events observed for the container",
            memory.oom_kills,
            labels,
        )
    for kind, count in (("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)):
        if count is not None:
            page.counter(
                "container_memory_failures_total",
                "Cumulative count of memory allocation failures.",
                count,
                {**labels, "failure_type": kind, "scope": "hierarchy"},
            )


def _network(page: Page, pod: PodUsage) -> None:
    for one in pod.network:
        labels = {
            "container": "POD",
            "id": f"/kubepods/pod{pod.uid}",
            "image": "",
            "interface": one.interface,
            "name": pod.uid,
            "namespace": pod.namespace,
            "pod": pod.pod,
        }
        for name, help, value in (
            ("receive_bytes", "Cumulative count of bytes received", one.received_bytes),
            ("receive_packets", "Cumulative count of packets received", one.received_packets),
            (
                "receive_errors",
                "Cumulative count of errors encountered while receiving",
                one.received_errors,
            ),
            (
                "receive_packets_dropped",
                "Cumulative count of packets dropped while receiving",
                one.received_drops,
            ),
            ("transmit_bytes", "Cumulative count of bytes transmitted", one.sent_bytes),
            ("transmit_packets", "Cumulative count of packets transmitted", one.sent_packets),
            (
                "transmit_errors",
                "Cumulative count of errors encountered while transmitting",
                one.sent_errors,
            ),
            (
                "transmit_packets_dropped",
                "Cumulative count of packets dropped while transmitting",
                one.sent_drops,
            ),
        ):
            page.counter(f"container_network_{name}_total", help, value, labels)
