"""Manifests of Secrets with something wrong in them, and a value that no error about them may hold."""

import base64
import json
import string
from typing import Any

from hypothesis import strategies as st

Manifest = dict[str, Any]

_TEXT = string.ascii_letters + string.digits + " _-+/=.:!@#$%&*{}[]`'\"\\~äß€"
values = st.builds("{}q~Q{}".format, st.text(_TEXT, max_size=8), st.text(_TEXT, min_size=9, max_size=99))
"""Long enough to stand in no error by accident, and no words of the code, which hypothesis tries too."""


def said_in(text: str, value: str) -> bool:
    """Whether ``text`` has the beginning of ``value``: as it is, quoted, or in base64."""
    start = value[:12]
    encoded = base64.b64encode(value.encode()).decode()[:12]
    forms = (
        start,
        repr(start)[1:-1],
        json.dumps(start)[1:-1],
        json.dumps(start, ensure_ascii=False)[1:-1],
        encoded,
    )
    return any(form in text for form in forms)


def wrongs(value: str) -> list[Manifest]:
    """Fields that make a Secret wrong, most of them by ``value`` where it does not belong."""
    encoded = base64.b64encode(value.encode()).decode()
    return [
        {},
        {"data": {"a": value}},
        {"data": {"a": encoded[:-1]}},
        {"data": {"a": encoded + "="}},
        {"data": {"a": [encoded]}},
        {"data": {"a": {"b": value}}},
        {"data": encoded},
        {"data": [value]},
        {"data": {"no key!": encoded}},
        {"data": {"": encoded}},
        {"data": {"a": encoded, "b": 7}},
        {"data": {"a": encoded, "b": base64.b64encode(b"<redacted: 9 bytes>").decode()}},
        {"stringData": {"a": [value]}},
        {"stringData": {"a": {value: value}}},
        {"stringData": {"../a": value}},
        {"stringData": {"a": value, "b": None}},
        {"stringData": {"a": value, "b": "<redacted: 9 bytes>"}},
        {"stringData": value},
        {"stringData": [[value]]},
        {"type": [value]},
        {"immutable": value},
        {"password": value},
        {"apiVersion": value},
        {"metadata": value},
        {"metadata": {"name": "login", "namespace": "default", "uid": value}},
        {"metadata": {"name": "login", "namespace": "default", "resourceVersion": "9999"}},
        {"metadata": {"name": "login", "namespace": "default", "labels": {"a": [value]}}},
        {"metadata": {"name": "No Name", "namespace": "default"}},
        {"metadata": {"name": "login", "namespace": "default", "annotations": [value]}},
        {"metadata": {"name": f"No {value}", "namespace": "default"}},
        {"metadata": {"name": "login", "namespace": f"No {value}"}},
    ]


def secret_with(value: str, *wrong: Manifest) -> tuple[str, Manifest]:
    """``value``, and a Secret that holds it where it belongs, with the fields of ``wrong`` over its own."""
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login", "namespace": "default"},
        "stringData": {"password": value},
    }
    for one in wrong:
        manifest |= one
    return value, manifest


@st.composite
def broken_secrets(draw: st.DrawFn) -> tuple[str, Manifest]:
    """A value, and a Secret that holds it where it belongs and in places where it does not."""
    value = draw(values)
    return secret_with(value, *draw(st.lists(st.sampled_from(wrongs(value)), min_size=1, max_size=3)))


FOUND = [
    # Python's repr of text with an apostrophe stands in other quotes.
    secret_with(value := "0000000000' ", {"apiVersion": value}),
    secret_with(value := "0000000000\"' ", {"apiVersion": value}),
    # It looks like the place that msgspec's errors end with.
    secret_with(value := "0000 - at `$.1111111111111", {"apiVersion": value}),
    secret_with(value := "Not a name' must be this", {"metadata": {"name": value, "namespace": "default"}}),
]
"""What errors quoted, or came near to it."""
