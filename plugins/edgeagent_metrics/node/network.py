"""Network devices: node_exporter's ``netdev``, ``netclass`` and the size of ``conntrack``'s table."""

import re
from collections.abc import Callable

from edgeagent_metrics.node.files import Files, whole
from edgeagent_metrics.page import Page

_RECEIVE = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
_TRANSMIT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")
_DEVICE = [f"receive_{name}" for name in _RECEIVE] + [f"transmit_{name}" for name in _TRANSMIT]
_CLASS = (
    ("carrier", "gauge", "carrier", 1),
    ("carrier_changes", "counter", "carrier_changes_total", 1),
    ("mtu", "gauge", "mtu_bytes", 1),
    ("speed", "gauge", "speed_bytes", 125_000),
    ("tx_queue_len", "gauge", "transmit_queue_length", 1),
)
"""The file, and what it is called; a speed is in Mbit/s there."""
_CONNTRACK = "/proc/sys/net/netfilter"


def netdev(ignored: re.Pattern[str]) -> Callable[[Files, Page], None]:
    """``node_network_receive_*`` and ``…_transmit_*`` from /proc/net/dev (proc_pid_net(5))."""

    def collect(files: Files, page: Page) -> None:
        for line in files.read("/proc/net/dev").splitlines():
            name, colon, rest = line.rpartition(":")
            device = name.strip()
            if not colon or ignored.search(device):
                continue
            labels = {"device": device}
            for field, text in zip(_DEVICE, rest.split(), strict=False):
                help = f"Network device statistic {field}."
                page.counter(f"node_network_{field}_total", help, int(text), labels)

    return collect


def netclass(ignored: re.Pattern[str]) -> Callable[[Files, Page], None]:
    """What sysfs says of each device: whether it is up, its speed, its addresses."""

    def collect(files: Files, page: Page) -> None:
        for device in files.names("/sys/class/net"):
            if not ignored.search(device):
                _device(files, page, device)

    return collect


def _device(files: Files, page: Page, device: str) -> None:
    folder, labels = f"/sys/class/net/{device}", {"device": device}
    state = files.optional(f"{folder}/operstate").strip()
    if not state:
        return  # no device, but a file such as bonding_masters
    help = "Value is 1 if operstate is 'up', 0 otherwise."
    page.gauge("node_network_up", help, float(state == "up"), labels)
    about = {
        label: files.optional(f"{folder}/{file}").strip()
        for label, file in (
            ("address", "address"),
            ("broadcast", "broadcast"),
            ("duplex", "duplex"),
            ("ifalias", "ifalias"),
        )
    }
    page.gauge(
        "node_network_info",
        "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
        1,
        {**labels, **about, "operstate": state},
    )
    for file, kind, name, unit in _CLASS:
        value = whole(files.optional(f"{folder}/{file}").strip())
        if value is not None:
            add = page.counter if kind == "counter" else page.gauge
            add(f"node_network_{name}", f"Network device property: {name}", value * unit, labels)


def conntrack(files: Files, page: Page) -> None:
    """How full the kernel's table of connections is; nothing where it has none."""
    entries = files.number(f"{_CONNTRACK}/nf_conntrack_count")
    limit = files.number(f"{_CONNTRACK}/nf_conntrack_max")
    if entries is None or limit is None:
        return
    page.gauge(
        "node_nf_conntrack_entries",
        "Number of currently allocated flow entries for connection tracking.",
        entries,
    )
    page.gauge("node_nf_conntrack_entries_limit", "Maximum size of connection tracking table.", limit)
