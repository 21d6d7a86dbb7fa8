"""Names of images, taken apart as Podman does it.

The grammar is that of https://pkg.go.dev/github.com/distribution/reference
"""

import re
from typing import NamedTuple

MAX_LENGTH = 1024
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class ImageReference(NamedTuple):
    """``registry`` is empty where the name has none: which one is meant is then Podman's to find out."""

    registry: str
    path: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """``registry/path``, as the scopes of policy.json name it."""
        return f"{self.registry}/{self.path}"

    @property
    def identity(self) -> str:
        """The name with what tells one image of the repository: its digest, or else its tag."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag or 'latest'}"

    @property
    def pinned(self) -> bool:
        """Whether the name can only ever mean one image."""
        return _DIGEST.fullmatch(self.digest) is not None


def parse(text: str) -> ImageReference | None:
    """The reference that ``text`` is; None where it is none."""
    if len(text) > MAX_LENGTH or (found := _REFERENCE.fullmatch(text)) is None:
        return None
    host, path = found["host"] or "", found["path"]
    if host and not (re.search(r"[.:\[A-Z]", host) or host == "localhost"):
        host, path = "", f"{host}/{path}"
    if host == "index.docker.io":
        host = "docker.io"
    if host == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return ImageReference(host, path, found["tag"] or "", found["digest"] or "")
