"""Sinks that are closed when the test ends, and what they are tried against."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing

import pytest

from edgeagent_logs.sinks import NodeLogSinks
from tests.plugins.logs.httpkinds import KINDS
from tests.plugins.logs.sinkkit import MakeSink, made_sink
from tests.support.broker import TlsMaterial, tls_material
from tests.support.httpreceiver import HttpReceiver


@pytest.fixture
def sink_of() -> Iterator[MakeSink]:
    """Make a sink from a section of the configuration."""
    with ExitStack() as stack:

        def make(section: Mapping[str, object]) -> NodeLogSinks:
            return stack.enter_context(closing(made_sink(section)))

        yield make


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each type of sink that speaks HTTP."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def receiver(kind: str) -> Iterator[HttpReceiver]:
    """Its receiver."""
    with KINDS[kind]() as running:
        yield running


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> TlsMaterial:
    """A CA, a server's certificate and one client's."""
    return tls_material(tmp_path_factory.mktemp("tls"), ["gateway-7", "stranger"])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
