"""The section ``[plugins.metrics]``: where metrics can be had, by whom, and which there are."""

import re
import socket
from typing import Annotated, Literal, NamedTuple

import msgspec

from edgeagent.api.plugin import PluginConfig
from edgeagent.wire.clientnames import OPERATORS, AllowedClients
from edgeagent_metrics.remotewriteconfig import MAX_TARGETS, RemoteWriteConfig, check_names

FilePath = Annotated[str, msgspec.Meta(pattern=r"^(/[^\x00]*)?$", max_length=4096)]
"""Absolute, or empty for none."""
CollectorName = Literal[
    "conntrack", "containers", "cpu", "cpufreq", "diskstats", "filefd", "filesystem", "hwmon", "kubelet",
    "loadavg", "machine", "meminfo", "netclass", "netdev", "os", "pressure", "stat", "thermal_zone", "time",
    "uname", "vmstat",
]  # fmt: skip
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Address(NamedTuple):
    """What to listen on; ``host`` is an IP address."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether none but this machine can reach it."""
        return self.host == "::1" or self.host.startswith("127.")

    @property
    def family(self) -> socket.AddressFamily:
        """Of the socket."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def parse_address(text: str) -> Address:
    """``127.0.0.1:19100`` or ``[::1]:19100``; ValueError for anything else."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host, family = host[1:-1], socket.AF_INET6
    else:
        family = socket.AF_INET
    if not colon or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise ValueError(
            f"listen: {text!r} is no address with a port, such as 127.0.0.1:19100 or [::1]:19100"
        )
    try:
        socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"listen: {host!r} is no IP address; an IPv6 address stands in brackets") from None
    return Address(host, int(port))


class TlsConfig(PluginConfig, frozen=True):
    """``[plugins.metrics.tls]``: with a certificate, the endpoint speaks TLS and nothing else.

    ``certificate_file`` and ``key_file``: what clients are shown, in PEM. ``client_ca_file``: who vouches for
    clients; empty for the cluster's CA. ``allowed_clients``: the common names, or names in
    ``subjectAltName``, that are let in.
    """

    certificate_file: FilePath = ""
    key_file: FilePath = ""
    client_ca_file: FilePath = ""
    allowed_clients: AllowedClients = msgspec.field(default_factory=lambda: [OPERATORS])

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("tls: certificate_file and key_file belong together: give both, or neither")


class MetricsConfig(PluginConfig, frozen=True):
    """``listen``: the address and port of the endpoint; empty for none. ``collectors_off``: what is left out.

    The other settings are regular expressions, node_exporter's own, with what pods bring along added.
    ``remote_write``: where metrics are sent to, whether or not anybody scrapes them here.
    """

    listen: Annotated[str, msgspec.Meta(max_length=100)] = "127.0.0.1:19100"
    collectors_off: list[CollectorName] = []
    network_devices_ignored: Pattern = r"^(veth.*|edge[0-9a-f]{10})$"
    disk_devices_ignored: Pattern = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$"
    mount_points_ignored: Pattern = (
        r"^/(dev|proc|run/credentials/.+|run/edgeagent/.+|run/netns|sys|var/lib/docker/.+"
        r"|var/lib/containers/storage/.+|var/lib/edgeagent/.+)($|/)"
    )
    filesystem_types_ignored: Pattern = (
        r"^(9p|autofs|binfmt_misc|bpf|ceph|cgroup2?|cifs|configfs|debugfs|devpts|devtmpfs|erofs|fuse\..+|fusectl"
        r"|hugetlbfs|iso9660|mqueue|nfs4?|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|smb3"
        r"|squashfs|sysfs|tracefs)$"
    )
    tls: TlsConfig = TlsConfig()
    remote_write: Annotated[list[RemoteWriteConfig], msgspec.Meta(max_length=MAX_TARGETS)] = []

    def __post_init__(self) -> None:
        for name in (
            "network_devices_ignored", "disk_devices_ignored", "mount_points_ignored",
            "filesystem_types_ignored",
        ):  # fmt: skip
            try:
                re.compile(getattr(self, name))
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"{name}: no regular expression: {error}") from None
        check_names(self.remote_write)
        if self.listen and not parse_address(self.listen).loopback and not self.tls.certificate_file:
            raise ValueError(
                f"listen: {self.listen} can be reached from outside, and is served over mutual TLS only: set"
                " certificate_file and key_file in [plugins.metrics.tls], or listen on 127.0.0.1 or [::1]"
            )
