"""Page: metric families as they are put together, sample by sample."""

from edgeagent.api.metrics import MetricFamily, MetricType, Sample

NO_LABELS: dict[str, str] = {}


class Page:
    """Families in the order of their first samples. Use one label dict for all that it stands for: who writes
    the page down then writes it once.
    """

    def __init__(self) -> None:
        self._families: list[MetricFamily] = []
        self._samples: dict[str, list[Sample]] = {}

    def gauge(self, name: str, help: str, value: float, labels: dict[str, str] = NO_LABELS) -> None:
        """What goes up and down."""
        self.add(name, "gauge", help, value, labels)

    def counter(self, name: str, help: str, value: float, labels: dict[str, str] = NO_LABELS) -> None:
        """What only rises."""
        self.add(name, "counter", help, value, labels)

    def add(self, name: str, kind: MetricType, help: str, value: float, labels: dict[str, str]) -> None:
        """One sample."""
        try:
            samples = self._samples[name]
        except KeyError:
            family = MetricFamily(name, kind, help, [])
            self._families.append(family)
            samples = self._samples[name] = family.samples
        samples.append(Sample(value, labels))

    def families(self) -> list[MetricFamily]:
        """What was put on the page."""
        return self._families
