"""The machine as cAdvisor describes it: ``machine_*``."""

import os

from edgeagent_metrics.node.files import Files, whole
from edgeagent_metrics.page import Page


def machine(files: Files, page: Page) -> None:
    """How many CPUs and how much memory there are, with what identifies the machine and its boot."""
    labels = {
        "boot_id": files.optional("/proc/sys/kernel/random/boot_id").strip(),
        "machine_id": files.optional("/etc/machine-id").strip(),
        "system_uuid": files.optional("/sys/class/dmi/id/product_uuid").strip(),
    }
    page.gauge("machine_cpu_cores", "Number of logical CPU cores.", os.cpu_count() or 1, labels)
    amounts = {}
    for line in files.read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "SwapTotal"):
            amounts[name] = whole(rest.strip().removesuffix(" kB"))
    for name, metric, help in (
        ("MemTotal", "machine_memory_bytes", "Amount of memory installed on the machine."),
        ("SwapTotal", "machine_swap_bytes", "Amount of swap memory available on the machine."),
    ):
        if (amount := amounts.get(name)) is not None:
            page.gauge(metric, help, amount * 1024, labels)
