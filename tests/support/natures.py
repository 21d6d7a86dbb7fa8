"""What a test is by nature, for those who choose among them: on real parts, or one of many examples."""

from types import ModuleType

import pytest

REAL = frozenset(
    {
        "pexpect",
        "tests.plugins.network.nodeskit",
        "tests.support.broker",
        "tests.support.cluster",
        "tests.support.hubrun",
        "tests.support.lone",
        "tests.support.netcluster",
        "tests.support.netlab",
        "tests.support.podman",
        "tests.support.policylab",
        "tests.support.wireguardlab",
    }
)
"""Modules with what starts real parts, terminals among them. Who imports none of it meets none."""


def is_real(item: pytest.Item) -> bool:
    """Whether ``item`` runs on Podman, Mosquitto, the kernel or a terminal: by its module's imports."""
    module = getattr(item, "module", None)
    return isinstance(module, ModuleType) and any(_of(one) in REAL for one in vars(module).values())


def _of(value: object) -> str:
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))


def is_property(item: pytest.Item) -> bool:
    """Whether hypothesis makes up the examples of ``item``."""
    return bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False))


def mark(items: list[pytest.Item]) -> None:
    """Give them the markers ``real`` and ``examples``."""
    for item in items:
        if is_real(item):
            item.add_marker(pytest.mark.real)
        if is_property(item):
            item.add_marker(pytest.mark.examples)
