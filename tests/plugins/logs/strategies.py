"""Any batch that the core may hand to a sink."""

import json

from hypothesis import strategies as st

from edgeagent.api.logs import LogBatch, LogOrigin, LogRecord, Severity

TEXT = st.text(st.characters(codec="utf-8"))
_NAME = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
_LABEL = st.from_regex(
    r"([a-z0-9.-]{1,20}[a-z]/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True
)
_SEVERITY: st.SearchStrategy[Severity] = st.sampled_from(
    ["", "trace", "debug", "info", "warn", "error", "fatal"]
)
_FIELD = st.from_regex(r"[a-z]{1,8}", fullmatch=True)

VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELD, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def origins(draw: st.DrawFn) -> LogOrigin:
    """A container, or a unit."""
    if draw(st.booleans()):
        return LogOrigin(unit=f"{draw(_NAME)}.service")
    return LogOrigin(
        namespace=draw(_NAME),
        pod=draw(_NAME),
        pod_uid=draw(st.uuids()).hex,
        container=draw(_NAME),
        container_id=draw(st.sampled_from(["", "ab" * 32])),
        image=draw(st.sampled_from(["", "registry.example.com/a/b@sha256:" + "0" * 64])),
        labels=draw(st.dictionaries(_LABEL, st.sampled_from(["", "web", "x" * 63]), max_size=4)),
    )


@st.composite
def records(draw: st.DrawFn, places: int) -> LogRecord:
    """A record of one of so many origins."""
    fields = draw(st.none() | st.dictionaries(_FIELD, VALUES, min_size=1, max_size=3))
    return LogRecord(
        draw(st.integers(0, 2**63 - 1) | st.integers(-(2**40), 2**70)),
        draw(st.integers(0, places - 1)),
        draw(st.sampled_from(["stdout", "stderr", "journal"])),
        draw(TEXT),
        draw(_SEVERITY),
        b"" if fields is None else json.dumps(fields).encode(),
    )


@st.composite
def batches(draw: st.DrawFn) -> LogBatch:
    """Some records of some origins."""
    made = draw(st.lists(origins(), min_size=1, max_size=3))
    return LogBatch(origins=made, records=draw(st.lists(records(len(made)), max_size=8)))
