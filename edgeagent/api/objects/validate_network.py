"""The rules for NodeNetwork, HostFirewall and PodAddress that types alone cannot state."""

import base64
import binascii

from edgeagent.api.objects.network import HostFirewall, NodeNetwork, PodAddress
from edgeagent.api.objects.validate import (
    require,
    validate_ip,
    validate_label,
    validate_port,
    validate_range,
    validate_unique,
)
from edgeagent.api.objects.validate_policy import validate_cidr, validate_ip_block

MAX_RULES = 200
MAX_CONFIRM_SECONDS = 3_600
MAX_INTERFACE = 15
"""Characters in the name of an interface (IFNAMSIZ, less its end)."""


def validate_node_network(found: NodeNetwork) -> None:
    """Ranges are ranges, one a family; a key is 32 bytes."""
    spec = found.spec
    ranges = [validate_cidr(text, f"spec.podCidrs[{index}]") for index, text in enumerate(spec.pod_cidrs)]
    require(len({one.version for one in ranges}) == len(ranges), "spec.podCidrs", "two ranges of one family")
    if spec.address:
        validate_ip(spec.address, "spec.address")
    if spec.public_key:
        try:
            size = len(base64.b64decode(spec.public_key, validate=True))
        except (binascii.Error, ValueError):
            size = 0
        require(size == 32, "spec.publicKey", "must be 32 bytes in base64")
    validate_range(spec.port, 0, 65_535, "spec.port")


def validate_host_firewall(found: HostFirewall) -> None:
    """Each rule has a name of its own; its ports, sources and interfaces are such."""
    spec = found.spec
    validate_range(spec.confirm_seconds, 5, MAX_CONFIRM_SECONDS, "spec.confirmSeconds")
    require(len(spec.allow) <= MAX_RULES, "spec.allow", f"more than {MAX_RULES} rules")
    validate_unique((rule.name for rule in spec.allow), "spec.allow", "name")
    for number, rule in enumerate(spec.allow):
        path = f"spec.allow[{number}]"
        validate_label(rule.name, f"{path}.name")
        require(rule.protocol != "ICMP" or not rule.ports, f"{path}.ports", "ICMP has no ports")
        for index, port in enumerate(rule.ports):
            _validate_ports(port, f"{path}.ports[{index}]")
        for index, block in enumerate(rule.sources):
            validate_ip_block(block, f"{path}.sources[{index}]")
        for index, name in enumerate(rule.interfaces):
            fits = 0 < len(name) <= MAX_INTERFACE and name.isascii() and name.isprintable()
            fits = fits and not set(name) & set(' /"\\*')
            require(fits, f"{path}.interfaces[{index}]", f"{name[:40]!r} is no name of an interface")


def _validate_ports(port: int | str, path: str) -> None:
    """A number, or ``first-last``."""
    if isinstance(port, int):
        validate_port(port, path)
        return
    first, dash, last = port.partition("-")
    fits = bool(dash) and all(one.isascii() and one.isdecimal() and len(one) <= 5 for one in (first, last))
    require(fits, path, f"{port[:40]!r} is neither a port nor FIRST-LAST")
    require(0 < int(first) <= int(last) <= 65_535, path, f"{port!r} is no range of ports")


def validate_pod_address(found: PodAddress) -> None:
    """Addresses are addresses."""
    for index, text in enumerate(found.spec.ips):
        validate_ip(text, f"spec.ips[{index}]")
