"""Whether an image that is on the node is one that a pod's spec names. Pure; in doubt it is.

https://github.com/distribution/reference
"""

from collections.abc import Iterable


def is_named(references: Iterable[str], image_id: str, wanted: Iterable[str]) -> bool:
    """Whether any of ``wanted``, as specs write them, may mean the image with these references and id.

    A short name may have come from any registry, so ``busybox`` means ``quay.io/team/busybox:latest`` too:
    an image too many is kept, never one too few.
    """
    known = [_split(reference) for reference in references]
    return any(_is_id(name, image_id) or any(_means(_split(name), one) for one in known) for name in wanted)


def _means(wanted: tuple[str, str, str], known: tuple[str, str, str]) -> bool:
    name, tag, digest = wanted
    known_name, known_tag, known_digest = known
    if digest:
        return digest == known_digest
    return tag == known_tag and (known_name == name or known_name.endswith("/" + name))


def _split(reference: str) -> tuple[str, str, str]:
    """Name, tag (``latest`` where there is no other), and digest."""
    name, _, digest = reference.strip().partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    registry, below, rest = head.partition("/")
    if registry == "index.docker.io":  # its other name
        head = f"docker.io{below}{rest}"
    if head == "docker.io":
        head = "docker.io/library"
    return head + slash + last, tag or ("" if digest else "latest"), digest


def _is_id(name: str, image_id: str) -> bool:
    bare = name.removeprefix("sha256:")
    return len(bare) >= 12 and image_id.removeprefix("sha256:").startswith(bare)
