"""Collectors and Exporters: where metrics come from, and where they go. The core runs both.

The names, types and units are Prometheus' (https://prometheus.io/docs/practices/naming/): base units, a
counter's name ends in ``_total``. A collector is asked whenever somebody scrapes, or an exporter is due; in
between nothing is counted for it.
"""

import struct
from typing import Literal, Protocol

import msgspec

from edgeagent.api.delivery import Delivery
from edgeagent.api.usage import NodeUsage

MetricType = Literal["counter", "gauge", "histogram", "summary", "unknown"]

_STALE_BITS = (0x7FF0000000000002).to_bytes(8, "little")
STALE: float = struct.unpack("<d", _STALE_BITS)[0]
"""Prometheus' staleness marker, one of the many that are not a number: the series ended, it has no value.

https://prometheus.io/docs/specs/prw/remote_write_spec/#stale-markers
"""


def is_stale(value: float) -> bool:
    """Whether a value is ``STALE``, which equals nothing, as any that is not a number."""
    return value != value and struct.pack("<d", value) == _STALE_BITS


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One value. Its name is the family's and ``suffix``: ``_bucket``, ``_sum``, ``_count``, else empty.

    ``time`` is in seconds since the epoch where the value is not of the moment of collection.
    """

    value: float
    labels: dict[str, str] = {}
    suffix: str = ""
    time: float | None = None


class MetricFamily(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All samples of one name. ``name`` is whole, as on a page in Prometheus' text format.

    A histogram has ``_bucket`` samples with the label ``le``, cumulative, the last one ``+Inf``, and ``_sum``
    and ``_count``. A family that several collectors have is one family where type and help are the same.
    """

    name: str
    type: MetricType
    help: str
    samples: list[Sample] = []


class Gather(Protocol):
    """Has the core run all collectors, for a thread of a plugin's own; see ``PluginContext.gather``."""

    def __call__(self, seconds: float) -> list[MetricFamily]:
        """What all collectors have within ``seconds``; one that has not answered by then is left out.

        Blocks; never to be called in the lane (in a hook's method), where a collector may wait for it.
        Raises TemporaryError where the core is stopping.
        """


class Collectors(Protocol):
    """A source of metrics."""

    def collect(self, usage: NodeUsage) -> list[MetricFamily]:
        """The metrics as they are now. ``usage`` is what the core has just read from the kernel itself."""


class FamilyHead(msgspec.Struct, frozen=True, array_like=True):
    """What a family is, without its samples."""

    name: str
    type: MetricType
    help: str


class Series(msgspec.Struct, frozen=True, array_like=True):
    """The values of one label set over time.

    ``family`` is a place in the batch's ``families``. ``times`` rise; they are milliseconds since the epoch,
    those of the collection. ``values`` has as many; ``STALE`` is where the series ended.
    """

    family: int
    labels: dict[str, str]
    times: list[int]
    values: list[float]
    suffix: str = ""


class SampleBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Series of one node, none twice. Later batches go on where this one ends."""

    families: list[FamilyHead] = []
    series: list[Series] = []


class Exporters(Protocol):
    """The places to which a plugin sends metrics; each has a name, and gets every sample, oldest first."""

    def names(self) -> list[str]:
        """The configured exporters. A name stands for one place for ever: what it has got is kept by it."""

    def export(self, exporter: str, batch: SampleBatch) -> Delivery:
        """Send a batch; ``Delivery`` names series by their place. Raises as ``Delivery`` says.

        A batch may come again after an error, whole: a receiver has to know time stamps that it has.
        """
