"""Temperatures and what else sensors say: node_exporter's ``hwmon`` and ``thermal_zone``.

https://docs.kernel.org/hwmon/sysfs-interface.html, https://docs.kernel.org/driver-api/thermal/sysfs-api.html
"""

import os
import re

from edgeagent_metrics.node.files import Files
from edgeagent_metrics.page import Page

_SENSOR = re.compile(r"^(?P<kind>in|cpu|fan|temp|curr|power|energy|humidity)(?P<number>[0-9]+)_(?P<what>.+)$")
_UNFIT = re.compile(r"[^a-z0-9:_]")
_HWMON = "/sys/class/hwmon"
_THERMAL = "/sys/class/thermal"
MOST_FILES = 1000


def hwmon(files: Files, page: Page) -> None:
    """``node_hwmon_*``: each sensor of each chip, in base units."""
    taken: set[str] = set()
    for monitor in files.names(_HWMON):
        folder = f"{_HWMON}/{monitor}"
        human = _clean(files.optional(f"{folder}/name"))
        chip = _chip(files, folder) or human or monitor
        if chip in taken:
            chip = f"{chip}_{monitor}"  # two monitors of one device
        taken.add(chip)
        if human:
            page.gauge(
                "node_hwmon_chip_names",
                "Annotation metric for human-readable chip names",
                1,
                {"chip": chip, "chip_name": human},
            )
        for name in files.names(folder)[:MOST_FILES]:
            if (found := _SENSOR.match(name)) is not None:
                text = files.optional(f"{folder}/{name}").strip()
                labels = {"chip": chip, "sensor": found["kind"] + found["number"]}
                _sensor(page, found["kind"], found["what"], text, labels)


def _sensor(page: Page, kind: str, what: str, text: str, labels: dict[str, str]) -> None:
    if what == "label":
        help = "Label for given chip and sensor"
        page.gauge("node_hwmon_sensor_label", help, 1, {**labels, "label": text})
        return
    try:
        value = float(text)
    except ValueError:
        return
    name = f"node_hwmon_{kind}" if what == "input" else f"node_hwmon_{kind}_{_clean(what)}"
    if what in ("fault", "alarm"):
        page.gauge(name, f"Hardware sensor {what} status ({kind})", value, labels)
    elif what == "beep":
        page.gauge(f"{name}_enabled", "Hardware monitor sensor has beeping enabled", value, labels)
    elif kind in ("in", "cpu"):
        page.gauge(f"{name}_volts", f"Hardware monitor for voltage ({what})", value / 1e3, labels)
    elif kind == "temp" and what != "type":
        page.gauge(f"{name}_celsius", f"Hardware monitor for temperature ({what})", value / 1e3, labels)
    elif kind == "curr":
        page.gauge(f"{name}_amps", f"Hardware monitor for current ({what})", value / 1e3, labels)
    elif kind == "energy":
        help = f"Hardware monitor for joules used so far ({what})"
        page.counter(f"{name}_joule_total", help, value / 1e6, labels)
    elif kind == "power" and what.startswith("average_interval"):
        help = f"Hardware monitor power usage update interval ({what})"
        page.gauge(f"{name}_seconds", help, value / 1e3, labels)
    elif kind == "power" and what == "accuracy":
        page.gauge(name, "Hardware monitor power meter accuracy, as a ratio", value / 1e6, labels)
    elif kind == "power":
        page.gauge(f"{name}_watt", f"Hardware monitor for power usage in watts ({what})", value / 1e6, labels)
    elif kind == "humidity":
        help = (
            "Hardware monitor for humidity, as a ratio"
            f" (multiply with 100.0 to get the humidity as a percentage) ({what})"
        )
        page.gauge(name, help, value / 1e6, labels)
    elif kind == "fan" and what in ("input", "min", "max", "target"):
        page.gauge(f"{name}_rpm", f"Hardware monitor for fan revolutions per minute ({what})", value, labels)
    else:
        page.gauge(name, f"Hardware monitor {kind} element {what}", value, labels)


def _chip(files: Files, folder: str) -> str:
    """Of where the device is, which stays the same whatever is loaded first; empty where it has no place."""
    link = f"{files.root}{folder}/device"
    if not os.path.exists(link):
        return ""
    path, device = os.path.split(os.path.realpath(link))
    return "_".join(filter(None, (_clean(os.path.basename(path)), _clean(device))))


def thermal_zone(files: Files, page: Page) -> None:
    """``node_thermal_zone_temp``, and how hard cooling devices work, throttling CPUs among them."""
    for name in files.names(_THERMAL):
        folder = f"{_THERMAL}/{name}"
        kind = files.optional(f"{folder}/type").strip()
        if name.startswith("thermal_zone"):
            if (temperature := files.number(f"{folder}/temp")) is not None:
                page.gauge(
                    "node_thermal_zone_temp",
                    "Zone temperature in Celsius",
                    temperature / 1e3,
                    {"type": kind, "zone": name.removeprefix("thermal_zone")},
                )
        elif name.startswith("cooling_device"):
            labels = {"name": name.removeprefix("cooling_device"), "type": kind}
            for file, metric, help in (
                ("cur_state", "cur_state", "Current throttle state of the cooling device"),
                ("max_state", "max_state", "Maximum throttle state of the cooling device"),
            ):
                if (state := files.number(f"{folder}/{file}")) is not None:
                    page.gauge(f"node_cooling_device_{metric}", help, state, labels)


def _clean(text: str) -> str:
    return _UNFIT.sub("_", text.strip().lower()).strip("_")
