"""Tests that may run a second time in the gate, for a starved machine fails them too: docs/adr/0023."""

import os
from pathlib import Path

import pytest

from tests.support.natures import is_property, is_real

VARIABLE = "EDGEAGENT_RERUNS"
"""The file, by its path, that takes the ids of tests that ran again. Without it nothing runs again."""


def may_rerun(item: pytest.Item) -> bool:
    """Whether ``item`` runs on real parts, and is no property test: those fail for reasons of their own."""
    return is_real(item) and not is_property(item)


class Reruns:
    """Lets tests run again, and writes down which did. ``writes``: in one process, xdist's controller."""

    def __init__(self, file: Path, *, writes: bool) -> None:
        self.file = file
        self.writes = writes

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark the tests that may."""
        for item in items:
            if may_rerun(item):
                item.add_marker(pytest.mark.flaky(reruns=1))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that runs again."""
        if self.writes and str(report.outcome) == "rerun":
            with self.file.open("a") as out:
                out.write(f"{report.nodeid}\n")


def register(config: pytest.Config, *, is_worker: bool) -> None:
    """Follow the environment."""
    if name := os.environ.get(VARIABLE):
        config.pluginmanager.register(Reruns(Path(name), writes=not is_worker), "edgeagent-reruns")
