"""What is read of the machine: /proc, file systems, cgroups, and the kernel's word that memory is short."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.node.pressure.cgroups import CgroupUsage, container_usage
from edgeagent.node.pressure.psi import MemoryStalls, open_trigger
from edgeagent.node.pressure.signals import SignalReader
from edgeagent.node.pressure.thresholds import SIGNALS, Reading
from tests.support.waiting import wait_for_async

MEMINFO = (
    "MemTotal:         249456 kB\nMemFree:           12000 kB\nMemAvailable:     101000 kB\nBuffers: 4 kB\n"
)
ID = "0123456789abcdef" * 4


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_files_of_a_small_board(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/meminfo": MEMINFO, "proc/loadavg": "0.04 0.10 0.11 2/130 8049\n",
        "proc/sys/kernel/pid_max": "32768\n", "proc/sys/kernel/threads-max": "1900\n",
    })  # fmt: skip
    found = SignalReader(root=tmp_path, nodefs=tmp_path / "absent").read()
    assert found == {
        "memory.available": Reading(101000 * 1024, 249456 * 1024), "pid.available": Reading(1770, 1900),
    }  # fmt: skip


@pytest.mark.parametrize(
    "meminfo", ["", "MemTotal: x kB\nMemAvailable: 5 kB\n", "MemTotal: 100 kB\n", "MemTotal:\n"]
)
def test_what_is_not_there_is_left_out(tmp_path: Path, meminfo: str) -> None:
    write(tmp_path, {"proc/meminfo": meminfo, "proc/loadavg": "1 2 3"})
    assert SignalReader(root=tmp_path, nodefs=tmp_path / "absent").read() == {}


def test_this_machine(tmp_path: Path) -> None:
    found = SignalReader(root=Path("/"), nodefs=tmp_path, imagefs=tmp_path).read()
    assert set(found) >= {"memory.available", "pid.available", "nodefs.available", "imagefs.available"}
    assert all(0 <= found[signal].available <= found[signal].capacity for signal in found)
    assert set(found) <= set(SIGNALS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB with 64 inodes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M,nr_inodes=64", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_real_disk_fills_up(small_disk: Path) -> None:
    reader = SignalReader(root=small_disk, nodefs=small_disk)
    before = reader.read()
    assert before["nodefs.available"] == Reading(4 << 20, 4 << 20)
    assert before["nodefs.inodesFree"].capacity == 64
    (small_disk / "big").write_bytes(bytes(3 << 20))
    for number in range(10):
        (small_disk / str(number)).touch()
    after = reader.read()
    assert after["nodefs.available"].available == 1 << 20
    assert before["nodefs.inodesFree"].available - after["nodefs.inodesFree"].available == 11
    assert "imagefs.available" not in after
    reader.imagefs = small_disk
    assert reader.read()["imagefs.available"] == after["nodefs.available"]


V2_STAT = "anon 5000000\nfile 3000000\ninactive_anon 7\ninactive_file 1048576\nactive_file 2\n"
V1_STAT = "cache 9\ninactive_file 5\ntotal_inactive_file 4096\ntotal_active_file 8\n"
SCOPE = f"machine.slice/libpod-{ID}.scope"


def test_disks_are_told_apart_by_their_device(tmp_path: Path) -> None:
    reader = SignalReader(root=Path("/"), nodefs=tmp_path)
    assert reader.device_of("nodefs.available") is None
    reader.imagefs = tmp_path
    assert reader.device_of("imagefs.available") is None
    reader.imagefs = Path("/proc")
    assert reader.device_of("nodefs.available") == tmp_path.stat().st_dev
    assert reader.device_of("imagefs.inodesFree") == Path("/proc").stat().st_dev
    reader.imagefs = tmp_path / "absent"
    assert reader.device_of("imagefs.available") is None


@pytest.mark.parametrize("below", ["", "/container", "/init.scope/deeper"])
def test_cgroup_version_2(tmp_path: Path, below: str) -> None:
    folder = f"sys/fs/cgroup/{SCOPE}"
    write(tmp_path, {
        "proc/7/cgroup": f"0::/{SCOPE}{below}\n", "sys/fs/cgroup/cgroup.controllers": "memory pids\n",
        f"{folder}/memory.current": "9437184\n", f"{folder}/memory.stat": V2_STAT,
        f"{folder}/pids.current": "12\n",
    })  # fmt: skip
    assert container_usage(tmp_path, 7, ID) == CgroupUsage(memory=8 << 20, pids=12)


def test_cgroup_version_1_and_hybrid(tmp_path: Path) -> None:
    path = f"libpod_parent/libpod-{ID}"
    lines = "".join(f"{n}:{name}:/{path}\n" for n, name in ((9, "name=systemd"), (8, "pids"), (4, "memory")))
    write(tmp_path, {
        "proc/7/cgroup": f"{lines}3:cpu,cpuacct:/x\n0::/\n", "sys/fs/cgroup/unified/cgroup.controllers": "\n",
        f"sys/fs/cgroup/memory/{path}/memory.usage_in_bytes": "1052672\n",
        f"sys/fs/cgroup/memory/{path}/memory.stat": V1_STAT, f"sys/fs/cgroup/pids/{path}/pids.current": "3\n",
    })  # fmt: skip
    assert container_usage(tmp_path, 7, ID) == CgroupUsage(memory=1 << 20, pids=3)


def test_without_the_controllers(tmp_path: Path) -> None:
    """Raspberry Pi OS boots without the memory controller; a process may have ended or be out of sight."""
    write(tmp_path, {"proc/7/cgroup": "0::/a\n", "proc/8/cgroup": "0::/../../b\nnonsense\n"})
    for pid in (7, 8, 9):
        assert container_usage(tmp_path, pid, ID) == CgroupUsage()


def test_a_cgroup_that_is_not_the_containers_says_nothing_of_it(tmp_path: Path) -> None:
    """The process has ended and its id is another's, or the runtime keeps to the agent's own cgroup."""
    write(tmp_path, {
        "proc/7/cgroup": "0::/system.slice/edgeagent.service\n", "sys/fs/cgroup/cgroup.controllers": "",
        "sys/fs/cgroup/system.slice/edgeagent.service/memory.current": "9437184\n",
        "sys/fs/cgroup/system.slice/edgeagent.service/pids.current": "12\n",
        "proc/8/cgroup": f"4:memory:/user\n8:pids:/libpod-{ID}\n0::/user\n",
        "sys/fs/cgroup/memory/user/memory.usage_in_bytes": "1\n", "sys/fs/cgroup/user/memory.current": "1\n",
        f"sys/fs/cgroup/pids/libpod-{ID}/pids.current": "3\n",
    })  # fmt: skip
    assert container_usage(tmp_path, 7, ID) == CgroupUsage()
    assert container_usage(tmp_path, 7, "") == CgroupUsage()
    assert container_usage(tmp_path, 8, ID) == CgroupUsage(pids=3)


def test_usage_below_its_inactive_files(tmp_path: Path) -> None:
    write(tmp_path, {
        "proc/7/cgroup": f"0::/{SCOPE}\n", "sys/fs/cgroup/cgroup.controllers": "",
        f"sys/fs/cgroup/{SCOPE}/memory.current": "10\n",
        f"sys/fs/cgroup/{SCOPE}/memory.stat": "inactive_file 20\n",
    })  # fmt: skip
    assert container_usage(tmp_path, 7, ID) == CgroupUsage(memory=0)


def test_this_process_is_accounted_for() -> None:
    own = {line.rpartition("/")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    for name in own:
        usage = container_usage(Path("/"), os.getpid(), name)
        assert usage.memory is None or usage.memory > 0


def test_urgent_data_on_a_descriptor_is_told() -> None:
    """POLLPRI, which is how a trigger speaks, comes from urgent data on a socket as well."""

    async def scenario() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as ours,
        ):
            theirs, _ = server.accept()
            told: list[None] = []
            stalls = MemoryStalls(theirs.detach, lambda: told.append(None))
            assert stalls.start() == ""
            ours.send(b"ordinary")
            await asyncio.sleep(0)
            assert not told
            ours.send(b"!", socket.MSG_OOB)
            await wait_for_async(lambda: bool(told), what="the callback")
            stalls.close()
            stalls.close()

    asyncio.run(scenario())


def test_a_kernel_without_stall_information(tmp_path: Path) -> None:
    async def scenario() -> None:
        stalls = MemoryStalls(lambda: open_trigger(tmp_path), lambda: None)
        assert "No such file" in stalls.start()
        stalls.close()

    asyncio.run(scenario())


def test_a_trigger_that_is_refused_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/pressure/memory").symlink_to("/dev/full")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="space"):
        open_trigger(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kernels_own_triggers() -> None:
    """Where there are any, they can be set with the rights that we have, and an idle kernel is silent."""
    exists = Path("/proc/pressure/memory").exists()

    async def scenario() -> None:
        stalls = MemoryStalls(lambda: open_trigger(Path("/")), lambda: None)
        assert (stalls.start() == "") == exists
        await asyncio.sleep(0)
        stalls.close()

    asyncio.run(scenario())
