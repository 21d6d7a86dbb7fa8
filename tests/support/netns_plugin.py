"""A tiny real network plugin for tests: a network namespace for each pod, joined to the host by a veth pair.

A pod has the address 10.99.<third>.<n>, reachable from this host alone; the host has 10.99.<third>.1 on each
pair. Nothing is forwarded or translated: no packet of a pod leaves the machine.
"""

import json
import subprocess
from pathlib import Path

from edgeagent.api.errors import TemporaryError
from edgeagent.api.hookspecs import hookimpl
from edgeagent.api.network import Attachment, Network, NetworkReport, NetworkState, PodSandbox, Rows
from edgeagent.api.objects.service import Protocol
from edgeagent.api.plugin import LaneSpec, PluginConfig, PluginContext, PluginInfo

NAME = "netns-test"


class Config(PluginConfig, frozen=True):
    """``third``: the third number of all addresses, which keeps test processes apart."""

    third: int = 1


class NetnsNetwork:
    """Pods' namespaces by uid, in a file so that a restarted agent finds them."""

    def __init__(self, third: int, file: Path) -> None:
        self._third = third
        self._file = file

    def attach(self, pod: PodSandbox) -> Attachment:
        """Make what is missing of the pod's network."""
        numbers = self._load()
        if pod.uid not in numbers:
            numbers[pod.uid] = next(n for n in range(2, 255) if n not in numbers.values())
            self._save(numbers)
        number = numbers[pod.uid]
        name, link = namespace_name(self._third, number), f"et{self._third}-{number}"
        address, host = f"10.99.{self._third}.{number}", f"10.99.{self._third}.1"
        if not Path("/run/netns", name).exists():
            _ip("netns", "add", name)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("address", "add", f"{host}/32", "dev", link)
            _ip("link", "set", link, "up")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "add", f"{address}/32", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "route", "add", host, "dev", "eth0")
            _ip("-n", name, "route", "add", "default", "via", host)
            _ip("route", "add", f"{address}/32", "dev", link, "src", host)
        return Attachment(namespace_path=f"/run/netns/{name}", ips=[address])

    def detach(self, pod: PodSandbox) -> None:
        """Remove the pod's namespace, and with it both ends of its pair."""
        numbers = self._load()
        if (number := numbers.pop(pod.uid, None)) is not None:
            remove_namespace(namespace_name(self._third, number))
            self._save(numbers)

    def reconcile(self, state: NetworkState) -> NetworkReport:
        """No services and no policies: nothing to do."""
        return NetworkReport()

    def show(self, what: Rows) -> list[dict[str, str]]:
        """Nothing."""
        return []

    def trace(self, source: str, target: str, port: int, protocol: Protocol) -> list[str]:
        """Nothing."""
        return []

    def _load(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return found

    def _save(self, numbers: dict[str, int]) -> None:
        self._file.write_text(json.dumps(numbers))


def namespace_name(third: int, number: int) -> str:
    """What ``ip netns`` knows a pod's namespace as."""
    return f"edgetest-{third}-{number}"


def remove_namespace(name: str) -> None:
    """Remove a namespace, if it is there."""
    if Path("/run/netns", name).exists():
        _ip("netns", "delete", name)


def namespaces(third: int) -> list[str]:
    """The namespaces that are there with this third number."""
    folder = Path("/run/netns")
    return sorted(path.name for path in folder.glob(f"edgetest-{third}-*")) if folder.exists() else []


def install(site: Path) -> None:
    """Make this module a plugin for every program that has ``site`` on its path."""
    info = site / "edgeagent_netns_test-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgeagent-netns-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[edgeagent]\n{NAME} = {__name__}\n")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise TemporaryError(f"ip {' '.join(arguments)}: {done.stderr.strip()}", reason="NetworkFailed")


@hookimpl
def edgeagent_plugin_info() -> PluginInfo:
    """In a thread of the agent: it is small."""
    return PluginInfo(
        name=NAME, version="1", summary="a namespace and a veth pair for each pod", lane=LaneSpec()
    )


@hookimpl
def edgeagent_config_schema() -> type[Config]:
    """See ``Config``."""
    return Config


@hookimpl
def edgeagent_network(ctx: PluginContext) -> Network:
    """One file of numbers in the plugin's state directory."""
    assert isinstance(ctx.config, Config)
    return NetnsNetwork(ctx.config.third, ctx.state_dir / "numbers.json")
