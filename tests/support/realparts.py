"""Which tests run on real parts: Podman, Mosquitto, the kernel's networks, whole agents."""

from types import ModuleType

import pytest

FOLDERS = ("tests/e2e/", "tests/plugins/")
REAL = frozenset(
    {
        "tests.plugins.network.nodeskit",
        "tests.support.broker",
        "tests.support.cluster",
        "tests.support.lone",
        "tests.support.netcluster",
        "tests.support.netlab",
        "tests.support.podman",
        "tests.support.policylab",
        "tests.support.wireguardlab",
    }
)
"""Modules with what starts real parts. A test module that imports none of it meets no machine."""


def is_real(item: pytest.Item) -> bool:
    """Whether ``item`` runs on real parts, by its folder and by what its module imports."""
    module = getattr(item, "module", None)
    return (
        item.nodeid.startswith(FOLDERS)
        and isinstance(module, ModuleType)
        and any(getattr(one, "__module__", "") in REAL for one in vars(module).values())
    )


def mark_real(items: list[pytest.Item]) -> None:
    """Give them the marker ``real``."""
    for item in items:
        if is_real(item):
            item.add_marker(pytest.mark.real)
