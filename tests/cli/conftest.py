"""``edgectl`` run in this process, and an operator file for it."""

from pathlib import Path

import pytest

from edgeagent.cli.edgectl import main
from tests.cli.running import Ctl, Done
from tests.cli.scripted import operator, write_operator
from tests.support.broker import Mosquitto


@pytest.fixture
def ctl(capsysbinary: pytest.CaptureFixture[bytes]) -> Ctl:
    """Run ``edgectl`` in this process."""

    def run(*words: object) -> Done:
        code = main([str(word) for word in words])
        captured = capsysbinary.readouterr()
        return Done(code, captured.out.decode("latin-1"), captured.err.decode())

    return run


@pytest.fixture
def config(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """An operator file for a plain broker, in the environment; gives the broker's port."""
    path = write_operator(tmp_path / "operator.json", operator(mosquitto.port))
    monkeypatch.setenv("EDGECTL_CONFIG", str(path))
    return mosquitto.port
