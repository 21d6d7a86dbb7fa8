"""Machines that are not at hand: sensors, frequencies and throttling of boards, broken files and none."""

from pathlib import Path

import pytest

from edgeagent.api.metrics import MetricFamily
from edgeagent_metrics.collectors import NodeMetrics
from edgeagent_metrics.config import MetricsConfig
from edgeagent_metrics.exposition import render
from edgeagent_metrics.node.files import MOST_BYTES, Files
from tests.plugins.metrics.metricskit import NOTHING, collected, labelled, lint, machine, values

_FIRMWARE = "soc:firmware/raspberrypi-hwmon"
RASPBERRY = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48686\n",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/class/thermal/cooling_device0/max_state": "4\n",
    "sys/class/hwmon/hwmon0": "->../../devices/virtual/thermal/thermal_zone0/hwmon0",
    "sys/devices/virtual/thermal/thermal_zone0/hwmon0/name": "cpu_thermal\n",
    "sys/devices/virtual/thermal/thermal_zone0/hwmon0/temp1_input": "48686\n",
    "sys/class/hwmon/hwmon1": f"->../../devices/platform/soc/{_FIRMWARE}/hwmon/hwmon1",
    f"sys/devices/platform/soc/{_FIRMWARE}/hwmon/hwmon1/name": "rpi_volt\n",
    f"sys/devices/platform/soc/{_FIRMWARE}/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
    f"sys/devices/platform/soc/{_FIRMWARE}/hwmon/hwmon1/device": "->../../../raspberrypi-hwmon",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_available_governors": "ondemand performance\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "600000\n",
}

GATEWAY = {
    "sys/class/hwmon/hwmon0": "->../../devices/platform/coretemp.0/hwmon/hwmon0",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/name": "coretemp\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/device": "->../../../coretemp.0",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_label": "Package id 0\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input": "61000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_crit": "100000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_crit_alarm": "0\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/fan1_input": "1200\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/fan1_alarm": "1\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/fan1_beep": "0\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/in1_input": "12100\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/curr1_input": "1500\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/power1_average": "7500000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/power1_average_interval": "1000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/energy1_input": "3000000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/humidity1_input": "45000\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon0/temp2_input": "garbage\n",
    "sys/class/hwmon/hwmon1": "->../../devices/platform/coretemp.0/hwmon/hwmon1",
    "sys/devices/platform/coretemp.0/hwmon/hwmon1/name": "coretemp\n",
    "sys/devices/platform/coretemp.0/hwmon/hwmon1/device": "->../../../coretemp.0",
    "sys/devices/platform/coretemp.0/hwmon/hwmon1/temp1_input": "62000\n",
    "proc/stat": "cpu  1 2 3 4 5 6 7 8 9 10\n"
    + "".join(f"cpu{i} 100 200 300 400 500 600 700 800 900 1000\n" for i in range(4))
    + "intr 12345 1 2 3\nctxt 99\nbtime 1700000000\nprocesses 7\nprocs_running 2\nprocs_blocked 1\n",
    **{
        f"sys/devices/system/cpu/cpu{i}/{name}": text
        for i in range(4)
        for name, text in {
            "thermal_throttle/core_throttle_count": f"{5 + i // 2}\n",
            "thermal_throttle/package_throttle_count": "30\n",
            "topology/physical_package_id": "0\n",
            "topology/core_id": f"{i // 2}\n",
        }.items()
    },
}


def test_a_raspberry_pi(tmp_path: Path) -> None:
    found = collected(machine(tmp_path, RASPBERRY), only=["hwmon", "thermal_zone", "cpufreq"])
    assert values(found["node_thermal_zone_temp"]) == {labelled(type="cpu-thermal", zone="0"): 48.686}
    assert values(found["node_cooling_device_cur_state"]) == {labelled(name="0", type="cpufreq-cpu0"): 2}
    assert values(found["node_cooling_device_max_state"]) == {labelled(name="0", type="cpufreq-cpu0"): 4}
    heat = {labelled(chip="cpu_thermal", sensor="temp1"): 48.686}
    assert values(found["node_hwmon_temp_celsius"]) == heat
    volt = labelled(chip="soc:firmware_raspberrypi_hwmon", sensor="in0")
    assert values(found["node_hwmon_in_lcrit_alarm_volts"]) == {volt: 0.001}, "as node_exporter has it"
    names = values(found["node_hwmon_chip_names"])
    assert names[labelled(chip="soc:firmware_raspberrypi_hwmon", chip_name="rpi_volt")] == 1
    assert values(found["node_cpu_scaling_frequency_hertz"]) == {labelled(cpu="0"): 600_000_000}
    assert values(found["node_cpu_frequency_max_hertz"]) == {labelled(cpu="0"): 1_800_000_000}
    governors = values(found["node_cpu_scaling_governor"])
    assert governors == {
        labelled(cpu="0", governor="ondemand"): 1,
        labelled(cpu="0", governor="performance"): 0,
    }
    assert lint(render(found.values(), "text").decode()) == set()


def test_a_gateway_with_many_sensors(tmp_path: Path) -> None:
    found = collected(machine(tmp_path, GATEWAY), only=["hwmon", "cpu", "stat"])
    chip = {"chip": "platform_coretemp_0"}
    second = labelled(chip="platform_coretemp_0_hwmon1", sensor="temp1")
    assert values(found["node_hwmon_temp_celsius"]) == {labelled(**chip, sensor="temp1"): 61, second: 62}
    label = labelled(**chip, sensor="temp1", label="Package id 0")
    assert values(found["node_hwmon_sensor_label"]) == {label: 1}
    expected = {
        "node_hwmon_temp_crit_celsius": ("temp1", 100),
        "node_hwmon_temp_crit_alarm_celsius": ("temp1", 0),
        "node_hwmon_fan_rpm": ("fan1", 1200),
        "node_hwmon_fan_alarm": ("fan1", 1),
        "node_hwmon_fan_beep_enabled": ("fan1", 0),
        "node_hwmon_in_volts": ("in1", 12.1),
        "node_hwmon_curr_amps": ("curr1", 1.5),
        "node_hwmon_power_average_watt": ("power1", 7.5),
        "node_hwmon_power_average_interval_seconds": ("power1", 1),
        "node_hwmon_energy_joule_total": ("energy1", 3),
        "node_hwmon_humidity": ("humidity1", 0.045),
    }
    for name, (sensor, value) in expected.items():
        assert values(found[name]) == {labelled(**chip, sensor=sensor): value}, name
    throttles = {labelled(core="0", package="0"): 5, labelled(core="1", package="0"): 6}
    assert values(found["node_cpu_core_throttles_total"]) == throttles
    assert values(found["node_cpu_package_throttles_total"]) == {labelled(package="0"): 30}
    cpu = values(found["node_cpu_seconds_total"])
    assert len(cpu) == 4 * 8
    assert cpu[labelled(cpu="3", mode="softirq")] == 7
    assert values(found["node_cpu_guest_seconds_total"])[labelled(cpu="0", mode="nice")] == 10
    assert values(found["node_intr_total"]) == {labelled(): 12345}
    assert values(found["node_boot_time_seconds"]) == {labelled(): 1_700_000_000}


def test_file_systems(tmp_path: Path) -> None:
    """The table of the machine's first process; spaces are octal there, and a folder may be gone."""
    (tmp_path / "mnt/my disk").mkdir(parents=True)
    mounts = (
        "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n"
        "/dev/sda1 /mnt/my\\040disk ext4 ro,relatime 0 0\n"
        "/dev/sdb1 /mnt/gone ext4 rw 0 0\n"
        "tmpfs /run/edgeagent/pods/1/volumes/secret tmpfs rw 0 0\n"
        "overlay /var/lib/containers/storage/overlay/x/merged overlay rw 0 0\n"
        "server:/export /mnt/nfs nfs4 rw 0 0\n"
        "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n"
    )
    found = collected(machine(tmp_path, {"proc/1/mounts": mounts}), only=["filesystem"])
    root = labelled(device="/dev/mmcblk0p2", fstype="ext4", mountpoint="/")
    disk = labelled(device="/dev/sda1", fstype="ext4", mountpoint="/mnt/my disk")
    gone = labelled(device="/dev/sdb1", fstype="ext4", mountpoint="/mnt/gone")
    assert values(found["node_filesystem_device_error"]) == {root: 0, disk: 0, gone: 1}
    assert values(found["node_filesystem_readonly"]) == {root: 0, disk: 1}
    assert values(found["node_filesystem_size_bytes"]).keys() == {root, disk}


def test_disks(tmp_path: Path) -> None:
    lines = (
        "179 0 mmcblk0 100 1 2048 500 200 2 4096 1500 3 700 2000 10 4 512 60 7 80\n"
        "8 1 sda1 1 1 1 1 1 1 1 1 1 1 1\n"
        "8 0 sda 10 0 8 4 0 0 0 0 0 4 4\n"
    )
    found = collected(machine(tmp_path, {"proc/diskstats": lines}), only=["diskstats"])
    card, sda = labelled(device="mmcblk0"), labelled(device="sda")
    assert values(found["node_disk_read_bytes_total"]) == {card: 2048 * 512, sda: 8 * 512}
    assert values(found["node_disk_io_time_seconds_total"])[card] == pytest.approx(0.7)
    assert values(found["node_disk_flush_requests_time_seconds_total"]) == {card: pytest.approx(0.08)}
    assert values(found["node_disk_io_now"]) == {card: 3, sda: 0}


def test_a_machine_without_anything_has_collectors_that_say_so(tmp_path: Path) -> None:
    """Each fails by itself; those whose files need not be there do not."""
    made = NodeMetrics(MetricsConfig(), root=str(tmp_path), now=lambda: 5.0)
    found = {family.name: family for family in made.collect(NOTHING)}
    success = {
        sample.labels["collector"]: sample.value for sample in found["node_scrape_collector_success"].samples
    }
    assert {name for name, value in success.items() if value} == {
        "conntrack", "containers", "cpufreq", "hwmon", "kubelet", "netclass", "pressure", "thermal_zone",
        "time", "uname",
    }  # fmt: skip
    assert values(found["node_time_seconds"]) == {labelled(): 5.0}
    assert success.keys() == set(made.names)


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("loadavg", "proc/loadavg", "a b c\n"),
        ("stat", "proc/stat", "ctxt many\n"),
        ("cpu", "proc/stat", "cpu0 a b\n"),
        ("diskstats", "proc/diskstats", "8 0\n"),
        ("filefd", "proc/sys/fs/file-nr", "\n"),
        ("netdev", "proc/net/dev", "eth0: a\n"),
        ("filesystem", "proc/1/mounts", "half a line\n"),
    ],
)
def test_a_file_that_makes_no_sense_spoils_one_collector(
    tmp_path: Path, name: str, file: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    off = sorted(set(NodeMetrics(MetricsConfig()).names) - {name, "time"})
    config = MetricsConfig(collectors_off=off)  # type: ignore[arg-type]
    made = NodeMetrics(config, root=str(machine(tmp_path, {file: text})))

    def success() -> dict[str, float]:
        found: dict[str, MetricFamily] = {family.name: family for family in made.collect(NOTHING)}
        return {
            sample.labels["collector"]: sample.value
            for sample in found["node_scrape_collector_success"].samples
        }

    assert success() == success() == {name: 0, "time": 1}
    assert caplog.text.count("the collector") == 1, "the same trouble is told of once"


def test_a_file_without_end_is_given_up(tmp_path: Path) -> None:
    machine(tmp_path, {"proc/meminfo": "x" * (MOST_BYTES + 100_000)})
    with pytest.raises(OSError, match="/proc/meminfo is too long"):
        Files(str(tmp_path)).read("/proc/meminfo")
