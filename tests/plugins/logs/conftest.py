"""Sinks that are closed when the test ends."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing

import pytest

from edgeagent_logs.sinks import NodeLogSinks
from tests.plugins.logs.sinkkit import MakeSink, made_sink


@pytest.fixture
def sink_of() -> Iterator[MakeSink]:
    """Make a sink from a section of the configuration."""
    with ExitStack() as stack:

        def make(section: Mapping[str, object]) -> NodeLogSinks:
            return stack.enter_context(closing(made_sink(section)))

        yield make
