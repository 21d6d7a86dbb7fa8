"""A cluster made by ``edgehub init``, with its broker running."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import MOSQUITTO
from tests.support.hubrun import HubDirectory


@pytest.fixture
def stopped_cluster(tmp_path: Path) -> Iterator[HubDirectory]:
    """The broker has yet to be started; it is stopped after the test."""
    if shutil.which(MOSQUITTO) is None:
        pytest.skip("needs Debian's mosquitto: sudo apt-get install mosquitto")
    directory = HubDirectory(tmp_path)
    yield directory
    directory.broker.terminate()


@pytest.fixture
def cluster(stopped_cluster: HubDirectory) -> HubDirectory:
    """The broker runs."""
    stopped_cluster.start_broker()
    return stopped_cluster
