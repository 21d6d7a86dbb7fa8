"""Which skipped tests are expected: a run that must prove something fails when a test was skipped unseen."""

from pathlib import Path

import pytest


def read_expected(path: Path) -> frozenset[str]:
    """Read node ids, one a line; blank lines and ``#`` comments do not count."""
    if not path.exists():
        return frozenset()
    lines = (line.strip() for line in path.read_text().splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


class SkipGuard:
    """Collects skips and fails the run for those not expected. Under xdist it belongs in the controller."""

    def __init__(self, expected: frozenset[str]) -> None:
        self.expected = expected
        self.skipped: dict[str, str] = {}

    @property
    def unexpected(self) -> dict[str, str]:
        """The skipped tests or modules that are not in the list, with their reasons."""
        return {node: reason for node, reason in sorted(self.skipped.items()) if node not in self.expected}

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            longrepr = report.longrepr
            self.skipped[report.nodeid] = str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skipped test."""
        self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a skipped module."""
        self._add(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Make the run fail."""
        if self.unexpected and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: "pytest.TerminalReporter") -> None:
        """Name the unexpected skips."""
        if self.unexpected:
            terminalreporter.section("unexpected skips", red=True)
            for node, reason in self.unexpected.items():
                terminalreporter.line(f"{node}: {reason}", red=True)
