"""``edgectl reboot`` on the node: which program is run, and what is said where it cannot be."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.node.reboot import Reboot
from edgeagent.wire.rpc import RebootResult


class Programs:
    """Runs nothing, and remembers what it was to run."""

    def __init__(self, problem: str = "") -> None:
        self.ran: list[Sequence[str]] = []
        self.problem = problem

    async def run(self, argv: Sequence[str]) -> None:
        """As told."""
        self.ran.append(argv)
        if self.problem:
            raise TemporaryError(self.problem)


def reboot(programs: Programs, root: Path, *command: str, params: bytes = b"{}") -> RebootResult:
    made = Reboot(command, run=programs.run, root=root, boot_id="b")
    return asyncio.run(made.call(msgspec.Raw(params), 1000))


def test_systemd_reboots_where_it_runs(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    programs = Programs()
    assert reboot(programs, tmp_path) == RebootResult(boot_id="b")
    assert programs.ran == [["systemctl", "reboot"]]


def test_sbin_reboot_does_where_it_does_not(tmp_path: Path) -> None:
    programs = Programs()
    reboot(programs, tmp_path)
    assert programs.ran == [["/sbin/reboot"]]


def test_the_configuration_may_name_another_program(tmp_path: Path) -> None:
    programs = Programs()
    reboot(programs, tmp_path, "board-reset", "--now")
    assert programs.ran == [("board-reset", "--now")]


def test_what_cannot_be_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="the node cannot be rebooted: no such program") as raised:
        reboot(Programs("no such program"), tmp_path)
    assert raised.value.reason == "RebootFailed"


def test_it_takes_no_parameters(tmp_path: Path) -> None:
    programs = Programs()
    with pytest.raises(InvalidObjectError):
        reboot(programs, tmp_path, params=b'{"command":"rm"}')
    assert programs.ran == []
