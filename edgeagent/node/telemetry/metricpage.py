"""MetricPage: families put together from what plugins answer with, each looked at before it is believed."""

import re
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.metrics import MetricFamily, MetricType, Sample

MAX_SAMPLES = 20_000
"""A collector's answer may have so many."""
MAX_LABEL_VALUE = 4_096
MAX_HELP = 10_000
MAX_INTEGER = 1 << 64
MAX_SECONDS = 1e12
MAX_NAMES = 10_000
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES = {
    "histogram": frozenset({"_bucket", "_sum", "_count"}),
    "summary": frozenset({"", "_sum", "_count"}),
}
_PLAIN = frozenset({""})
_TYPES = frozenset(get_args(MetricType))


class FitNames:
    """Names that were found to be fit: the same come again and again."""

    def __init__(self) -> None:
        self._fit: dict[re.Pattern[str], set[str]] = {_NAME: set(), _LABEL: set()}

    def are_fit(self, pattern: re.Pattern[str], names: Iterable[str]) -> str | None:
        """None if all names are of the pattern, else one that is not, as it can be shown."""
        fit = self._fit[pattern]
        for name in names:
            if name not in fit:
                if not _is_text(name, 200) or not pattern.fullmatch(name):
                    return repr(str(name)[:100])
                if len(fit) >= MAX_NAMES:
                    fit.clear()
                fit.add(name)
        return None


class MetricPage:
    """Families by name, each once; what one collector has is added whole or not at all."""

    def __init__(self, names: FitNames) -> None:
        self._names = names
        self._families: dict[str, MetricFamily] = {}
        self._known_labels: dict[int, dict[str, str]] = {}

    def families(self) -> list[MetricFamily]:
        """In the order in which they came."""
        return list(self._families.values())

    def add(self, families: Iterable[MetricFamily]) -> None:
        """PermanentError for what no page can hold; nothing is added then."""
        merged: dict[str, MetricFamily] = {}
        joined: dict[str, set[tuple[object, ...]]] = {}
        count = 0
        for family in families:
            self._check_head(family)
            count += len(family.samples)
            if count > MAX_SAMPLES:
                raise PermanentError(f"it has more than {MAX_SAMPLES} samples")
            self._check(family)
            name = family.name
            before = merged.get(name) or self._families.get(name)
            if before is None:
                merged[name] = family
                continue
            if name not in joined:
                joined[name] = set(map(_key, before.samples))
                merged[name] = before = msgspec.structs.replace(before, samples=[*before.samples])
            _join(before, family, joined[name])
        self._families.update((name, family) for name, family in merged.items() if family.samples)

    def _check_head(self, family: MetricFamily) -> None:
        name = family.name
        if (unfit := self._names.are_fit(_NAME, (name,))) is not None:
            raise PermanentError(f"{unfit} is no name of a metric")
        kind: object = family.type
        if type(kind) is not str or kind not in _TYPES:
            raise PermanentError(f"{name}: {str(kind)[:50]!r} is no type of a metric")
        if not _is_text(family.help, MAX_HELP) or type(family.samples) is not list:
            raise PermanentError(f"{name}: its help is no text, or its samples are no list")

    def _check(self, family: MetricFamily) -> None:
        name = family.name
        suffixes = _SUFFIXES.get(family.type, _PLAIN)
        known, plain = self._known_labels, suffixes is _PLAIN
        for sample in family.samples:
            # Nearly all are plain: a look at each of them is what a page costs here.
            usual = plain and type(sample) is Sample and type(sample.value) is float
            usual = usual and sample.time is None and sample.suffix == "" and type(sample.labels) is dict
            if not usual and (problem := _unfit(sample, suffixes)) is not None:
                raise PermanentError(f"{name}: {problem}")
            labels = sample.labels
            if labels and id(labels) not in known:
                if (unfit := self._names.are_fit(_LABEL, labels)) is not None:
                    raise PermanentError(f"{name}: {unfit} is no name of a label")
                for key, value in labels.items():
                    if type(value) is not str or len(value) > MAX_LABEL_VALUE:
                        problem = f"is no text of at most {MAX_LABEL_VALUE} characters"
                        raise PermanentError(f"{name}: the value of label {key} {problem}")
                known[id(labels)] = labels  # kept, so that its id stays its own


def _key(sample: Sample) -> tuple[object, ...]:
    return sample.suffix, *sorted(sample.labels.items())


def _join(one: MetricFamily, other: MetricFamily, seen: set[tuple[object, ...]]) -> None:
    """Add to a family what another collector has of it, or the same one in another part."""
    if (one.type, one.help) != (other.type, other.help):
        raise PermanentError(f"{one.name} is on the page already, with another type or another help")
    for sample in other.samples:
        if (key := _key(sample)) in seen:
            raise PermanentError(f"{one.name} is on the page already, with the labels {sample.labels}")
        seen.add(key)
    one.samples.extend(other.samples)


def _unfit(sample: Any, suffixes: frozenset[str]) -> str | None:
    """What is wrong with a sample but for its labels; None where nothing is."""
    if type(sample) is not Sample:
        return f"{type(sample).__name__} is no sample"
    suffix: object = sample.suffix
    value: object = sample.value
    moment: object = sample.time
    if type(suffix) is not str or suffix not in suffixes:
        return f"it has no samples with the suffix {str(suffix)[:50]!r}"
    if type(value) is not float and not (type(value) is int and -MAX_INTEGER < value < MAX_INTEGER):
        return "a value is no number, or too large"
    if moment is not None and not (isinstance(moment, float | int) and abs(moment) < MAX_SECONDS):
        return "the time of a sample is no number of seconds"
    return None if type(sample.labels) is dict else "labels are no dict"


def _is_text(value: object, longest: int) -> bool:
    """What a plugin answers with is looked into no further than its structs' classes before."""
    return isinstance(value, str) and len(value) <= longest
