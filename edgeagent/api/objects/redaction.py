"""Secrets as people see them: keys and sizes, a mark in place of every value.

What holds marks may be looked at and kept, but not applied: the marks would take the place of the values.
"""

import re
from collections.abc import Mapping

import msgspec

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.config import Secret

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation in which ``kubectl apply`` keeps the manifest: of a Secret, the values in clear."""

_MARK = re.compile(rb"\s*<redacted: ([0-9]{1,8}) bytes>\s*")


def sizes(secret: Secret) -> Mapping[str, int]:
    """How many bytes are under each key, also where they were redacted.

    A key in both maps is stringData's.
    """
    values = secret.data | {key: text.encode() for key, text in secret.string_data.items()}
    return {key: _size(value) for key, value in values.items()}


def redacted(secret: Secret) -> Secret:
    """``secret`` without its values. Of one that is redacted already, the same."""
    marks = {key: b"<redacted: %d bytes>" % size for key, size in sizes(secret).items()}
    return msgspec.structs.replace(without_last_applied(secret), data=marks, string_data={})


def without_last_applied(secret: Secret) -> Secret:
    """``secret`` without what kubectl keeps of it in clear where everybody looks."""
    meta = secret.metadata
    if LAST_APPLIED not in meta.annotations:
        return secret
    annotations = {key: value for key, value in meta.annotations.items() if key != LAST_APPLIED}
    return msgspec.structs.replace(secret, metadata=msgspec.structs.replace(meta, annotations=annotations))


def refuse_redacted(secret: Secret) -> None:
    """InvalidObjectError that names the key where a mark stands in the place of a value."""
    for field, values in (("data", secret.data), ("stringData", _encoded(secret.string_data))):
        for key, value in values.items():
            if _MARK.fullmatch(value):
                raise InvalidObjectError(
                    f"{field}.{key}",
                    "holds the mark of a redacted value, as `get` prints it: values of Secrets are never"
                    " shown. Write the value itself, and apply the manifest that it was made with",
                )


def _encoded(texts: Mapping[str, str]) -> Mapping[str, bytes]:
    return {key: text.encode() for key, text in texts.items()}


def _size(value: bytes) -> int:
    mark = _MARK.fullmatch(value)
    return int(mark[1]) if mark else len(value)
