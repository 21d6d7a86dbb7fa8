"""policy.json, by which Podman takes or refuses images: which requirements hold for one.

Whether they are met is Podman's to check when it pulls. See containers-policy.json(5).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edgeagent_security.imagereference import ImageReference

MAX_BYTES = 1024 * 1024
_SIGNED = frozenset({"signedBy", "sigstoreSigned"})


class Requirement(msgspec.Struct, frozen=True):
    """One of the requirements of a scope, all of which must be met."""

    type: str


class ContainersPolicy(msgspec.Struct, frozen=True):
    """The file. ``transports``: by transport and scope."""

    default: list[Requirement]
    transports: dict[str, dict[str, list[Requirement]]] = {}

    def scope_of(self, image: ImageReference) -> tuple[str, Sequence[Requirement]]:
        """The most specific scope that ``image``, pulled from its registry, is in, and what it requires."""
        docker = self.transports.get("docker", {})
        for scope in _scopes(image):
            if scope in docker:
                return f'scope "{scope}"', docker[scope]
        return "default", self.default

    def asks_signature(self, image: ImageReference) -> tuple[str, bool]:
        """The scope in words, and whether an image without a good signature is refused there."""
        scope, requirements = self.scope_of(image)
        return scope, any(one.type in _SIGNED for one in requirements)


def read_policy(path: Path) -> ContainersPolicy:
    """The policy in a file; ValueError says why there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ValueError(f"is longer than {MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(data, type=ContainersPolicy)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not valid: {error}") from None


def _scopes(image: ImageReference) -> Iterator[str]:
    """From the image itself over its parents and its registry to domains above that, and all of them."""
    yield image.identity
    name = image.name
    while True:
        yield name
        if "/" not in name:
            break
        name = name.rpartition("/")[0]
    host = re.sub(r":[0-9]+$", "", name)
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""
