"""What is read of cgroups and /proc: both versions, what is missing, and what is nonsense."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.usage import (
    CpuUsage,
    DeviceUsage,
    InterfaceUsage,
    MachineUsage,
    MemoryUsage,
    PidsUsage,
)
from edgeagent.node.usage.cgroups import CgroupFolders, container_cgroup
from edgeagent.node.usage.counters import cpu_usage, io_usage, memory_usage, pids_usage
from edgeagent.node.usage.interfaces import interfaces_of, process_interfaces
from edgeagent.node.usage.machine import machine_usage

ID = "0123456789abcdef" * 4
SCOPE = f"machine.slice/libpod-{ID}.scope"
PARENT = f"libpod_parent/libpod-{ID}"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def upper(device: str) -> str:
    """A name for a device."""
    return f"name-{device}"


def test_version_2(tmp_path: Path) -> None:
    folder = f"sys/fs/cgroup/{SCOPE}"
    write(tmp_path, {
        "proc/7/cgroup": f"0::/{SCOPE}/container\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu io memory pids\n",
        f"{folder}/cpu.stat": "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 10\n"
        "nr_throttled 4\nthrottled_usec 1500000\n",
        f"{folder}/memory.current": "9437184\n", f"{folder}/memory.max": "16777216\n",
        f"{folder}/memory.swap.current": "4096\n",
        f"{folder}/memory.events": "low 0\nmax 3\noom 1\noom_kill 1\n",
        f"{folder}/memory.stat": "anon 4096\nfile 8192\ninactive_file 1048576\npgfault 70\npgmajfault 2\n",
        f"{folder}/pids.current": "12\n", f"{folder}/pids.max": "max\n",
        f"{folder}/io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0\n8:16 \n9:0 rbytes=x\n",
    })  # fmt: skip
    folders = container_cgroup(tmp_path, 7, ID)
    assert cpu_usage(folders) == CpuUsage(
        usage=2.5, user=2.0, system=0.5, periods=10, throttled_periods=4, throttled=1.5
    )
    assert memory_usage(folders) == MemoryUsage(
        usage=9437184, working_set=8 << 20, rss=4096, cache=8192, swap=4096, limit=16 << 20, failures=3,
        oom_kills=1, page_faults=70, major_page_faults=2,
    )  # fmt: skip
    assert pids_usage(folders) == PidsUsage(current=12)
    assert io_usage(folders, upper) == [
        DeviceUsage(device="name-8:0", read_bytes=4096, written_bytes=8192, reads=1, writes=2)
    ]


def test_version_1_with_controllers_mounted_together(tmp_path: Path) -> None:
    lines = "".join(
        f"{n}:{names}:/{PARENT}\n"
        for n, names in ((9, "name=systemd"), (8, "pids"), (4, "memory"), (3, "cpu,cpuacct"), (2, "blkio"))
    )
    cpu, memory = f"sys/fs/cgroup/cpu,cpuacct/{PARENT}", f"sys/fs/cgroup/memory/{PARENT}"
    write(tmp_path, {
        "proc/7/cgroup": lines + "0::/\n",
        f"{cpu}/cpuacct.usage": "2500000000\n", f"{cpu}/cpuacct.usage_user": "2000000000\n",
        f"{cpu}/cpuacct.usage_sys": "500000000\n",
        f"{cpu}/cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000\n",
        f"{memory}/memory.usage_in_bytes": "9437184\n", f"{memory}/memory.failcnt": "3\n",
        f"{memory}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        f"{memory}/memory.stat": "rss 1\ntotal_rss 4096\ntotal_cache 8192\ntotal_inactive_file 1048576\n"
        "total_swap 4096\nhierarchical_memory_limit 9223372036854771712\ntotal_pgfault 70\n"
        "total_pgmajfault 2\n",
        f"sys/fs/cgroup/pids/{PARENT}/pids.current": "12\n", f"sys/fs/cgroup/pids/{PARENT}/pids.max": "100\n",
        f"sys/fs/cgroup/blkio/{PARENT}/blkio.throttle.io_service_bytes_recursive":
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 1\n8:0 Total 12288\nTotal 12288\n",
        f"sys/fs/cgroup/blkio/{PARENT}/blkio.throttle.io_serviced": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
    })  # fmt: skip
    folders = container_cgroup(tmp_path, 7, ID)
    assert cpu_usage(folders) == CpuUsage(
        usage=2.5, user=2.0, system=0.5, periods=10, throttled_periods=4, throttled=1.5
    )
    assert memory_usage(folders) == MemoryUsage(
        usage=9437184, working_set=8 << 20, rss=4096, cache=8192, swap=4096, failures=3, oom_kills=1,
        page_faults=70, major_page_faults=2,
    )  # fmt: skip
    assert pids_usage(folders) == PidsUsage(current=12, limit=100)
    assert io_usage(folders, upper) == [
        DeviceUsage(device="name-8:0", read_bytes=4096, written_bytes=8192, reads=1, writes=2)
    ]


def test_a_kernel_without_the_controllers_says_nothing_rather_than_zero(tmp_path: Path) -> None:
    """Raspberry Pi OS boots without the memory controller."""
    folder = f"sys/fs/cgroup/{SCOPE}"
    write(tmp_path, {
        "proc/7/cgroup": f"0::/{SCOPE}\n", "sys/fs/cgroup/cgroup.controllers": "cpu\n",
        f"{folder}/cpu.stat": "usage_usec 10\n",
    })  # fmt: skip
    folders = container_cgroup(tmp_path, 7, ID)
    assert folders.found
    assert cpu_usage(folders) == CpuUsage(usage=1e-05)
    assert (memory_usage(folders), pids_usage(folders), io_usage(folders, upper)) == (None, None, [])
    nothing = container_cgroup(tmp_path, 8, ID)
    assert nothing == CgroupFolders()
    assert (cpu_usage(nothing), memory_usage(nothing), pids_usage(nothing)) == (None, None, None)


NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     900      10    0    0    0     0          0         0      900      10    0    0    0     0       0          0
  eth0:    1000      11    1    2    0     0          0         0     2000      22    3    4    0     0       0          0
  wg0: 5 nonsense
eth0:1:      1       1    1    1    0     0          0         0        1       1    1    1    0     0       0          0
"""  # noqa: E501


def test_interfaces() -> None:
    eth0, alias = interfaces_of(NET_DEV)
    assert eth0 == InterfaceUsage(
        interface="eth0", received_bytes=1000, received_packets=11, received_errors=1, received_drops=2,
        sent_bytes=2000, sent_packets=22, sent_errors=3, sent_drops=4,
    )  # fmt: skip
    assert alias.interface == "eth0:1"


def test_the_hosts_own_network_is_no_pods(tmp_path: Path) -> None:
    write(tmp_path, {"proc/7/net/dev": NET_DEV, "proc/8/net/dev": NET_DEV})
    for pid, namespace in (("self", "net:[1]"), ("7", "net:[1]"), ("8", "net:[2]")):
        (tmp_path / f"proc/{pid}/ns").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/ns/net").symlink_to(namespace)
    assert process_interfaces(tmp_path, 7) == []
    assert [one.interface for one in process_interfaces(tmp_path, 8)] == ["eth0", "eth0:1"]
    assert process_interfaces(tmp_path, 9) == []


def test_the_machine(tmp_path: Path) -> None:
    assert machine_usage(tmp_path) == MachineUsage()
    write(tmp_path, {
        "proc/stat": "cpu  100 50 30 9000 700 10 10 999 55 0\ncpu0 1 2 3\n",
        "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 400 kB\nInactive(file): 100 kB\nAnonPages: 200 kB\n"
        "Cached: 300 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\nHugePages_Total: 0\n",
        "proc/vmstat": "pgfault 5\npgmajfault 1\noom_kill 2\n",
    })  # fmt: skip
    assert machine_usage(tmp_path) == MachineUsage(
        cpu=CpuUsage(usage=2.0, user=1.5, system=0.5),
        memory=MemoryUsage(
            usage=600 << 10, working_set=500 << 10, rss=200 << 10, cache=300 << 10, swap=30 << 10,
            limit=1000 << 10, oom_kills=2, page_faults=5, major_page_faults=1,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "cpu", "cpu 1 2 3", "cpu a b c d e f g", "intr 1 2 3 4 5 6 7 8"])
def test_what_is_no_cpu_line(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"proc/stat": text})
    assert machine_usage(tmp_path).cpu is None


@given(st.text(max_size=400))
def test_no_text_is_too_strange_for_a_parser(text: str) -> None:
    for found in interfaces_of(text):
        assert found.received_bytes >= 0
