"""A new key and certificate in the place of the old: cut short before every single call to the system."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.node.identity import IdentityDir
from edgeagent.node.privatefiles import write_private
from edgeagent.node.renewedfiles import RenewedFiles

CALLS = ["mkdir", "open", "replace", "rename", "fsync", "fchmod", "rmdir", "unlink"]


class PowerCut(BaseException):
    """Nothing is carried out from here on."""


class Power:
    """Lets a number of calls to the system through; from then on there is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        self.left = left
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.left <= 0:
                raise PowerCut
            self.left -= 1
            return real(*args, **kwargs)

        return call


def texts(number: int) -> dict[str, str]:
    """The files of one generation, which say so."""
    return {name: f"{name} {number}\n" for name in ("ca", "certificate", "key")}


def make(folder: Path) -> IdentityDir:
    """An identity with generation 0."""
    folder.mkdir(mode=0o700)
    directory = IdentityDir(folder)
    first = texts(0)
    write_private(directory.ca, first["ca"].encode())
    write_private(directory.certificate, first["certificate"].encode())
    write_private(directory.private_key, first["key"].encode())
    return directory


def renew(directory: IdentityDir, number: int) -> None:
    """As the renewal does it."""
    files = RenewedFiles(directory)
    files.stage(**texts(number))
    files.adopt()
    files.settle()


def in_force(directory: IdentityDir) -> dict[str, str]:
    """What a start afterwards connects with."""
    files = RenewedFiles(directory).in_force
    return {
        "ca": files.ca.read_text(),
        "certificate": files.certificate.read_text(),
        "key": files.key.read_text(),
    }


def test_each_generation_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    directory = make(tmp_path / "identity")
    assert in_force(directory) == texts(0)
    for number in (1, 2, 3):
        renew(directory, number)
        assert in_force(directory) == texts(number)
        assert directory.private_key.read_text() == texts(number)["key"]
    assert sorted(os.listdir(directory.path)) == ["ca.crt", "node.crt", "node.key"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.path.iterdir())


def test_what_is_staged_counts_for_nothing(tmp_path: Path) -> None:
    directory = make(tmp_path / "identity")
    staged = RenewedFiles(directory).stage(**texts(1))
    assert staged.key.read_text() == texts(1)["key"]
    assert staged.key.parent.stat().st_mode & 0o777 == 0o700
    assert in_force(directory) == texts(0)
    renew(directory, 2)
    assert in_force(directory) == texts(2)


def test_power_is_cut_at_every_step(tmp_path: Path) -> None:
    """What is in force is the old set or the new, never a mixture; and it goes on from there."""
    seen = []
    step = 0
    while True:
        directory = make(tmp_path / f"identity-{step}")
        with pytest.MonkeyPatch.context() as monkeypatch:
            power = Power(monkeypatch, step)
            try:
                renew(directory, 1)
                whole = True
            except PowerCut:
                whole = False
        found = in_force(directory)
        assert found in (texts(0), texts(1)), f"after {step} calls"
        seen.append(found == texts(1))
        # The agent starts again, and is cut short at the next power cut too, or not.
        again = 0
        while True:
            copy = IdentityDir(tmp_path / f"copy-{step}-{again}")
            shutil.copytree(directory.path, copy.path)
            with pytest.MonkeyPatch.context() as monkeypatch:
                Power(monkeypatch, again)
                try:
                    RenewedFiles(copy).settle()
                    settled = True
                except PowerCut:
                    settled = False
            assert in_force(copy) == found, f"after {step} and {again} calls"
            if settled:
                break
            again += 1
        renew(copy, 2)
        assert in_force(copy) == texts(2)
        assert copy.private_key.read_text() == texts(2)["key"]
        if whole:
            break
        assert power.left == 0
        step += 1
    assert step > 20
    # Once it is the new set it stays so.
    assert seen == sorted(seen)
    assert seen[0] is False
    assert seen[-1] is True


def test_another_enrolment_is_not_undone_by_a_renewal_of_the_one_before(tmp_path: Path) -> None:
    directory = make(tmp_path / "identity")
    files = RenewedFiles(directory)
    files.stage(**texts(1))
    files.adopt()
    write_private(directory.private_key, b"key of another cluster")
    write_private(directory.certificate, b"certificate of another cluster")
    assert in_force(directory)["certificate"] == "certificate of another cluster"
    files.settle()
    assert in_force(directory)["key"] == "key of another cluster"


def test_cas_are_written_whole_beside_a_renewal_that_was_cut_short(tmp_path: Path) -> None:
    directory = make(tmp_path / "identity")
    files = RenewedFiles(directory)
    files.stage(**texts(1))
    files.adopt()
    files.write_ca("ca 7\n")
    assert in_force(directory) == {**texts(1), "ca": "ca 7\n"}


def test_a_disk_that_is_full_is_an_error_to_try_again_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    directory = make(tmp_path / "identity")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(Exception, match="No space left"):
            RenewedFiles(directory).stage(**texts(1))
        with pytest.raises(Exception, match="No space left"):
            RenewedFiles(directory).write_ca("ca 7\n")
    assert in_force(directory) == texts(0)
