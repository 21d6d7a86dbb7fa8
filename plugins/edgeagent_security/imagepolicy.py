"""Where images may come from, and how they must be named and signed. Podman checks signatures when it pulls.

A pattern names a registry and perhaps a beginning of the path: ``registry.example.com/team`` holds for
``registry.example.com/team/app`` and not for ``registry.example.com/teams``. ``*`` stands for any part of one
segment; ``*.`` before a domain for everything below it.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from edgeagent.api.admission import Violation
from edgeagent.api.objects.pod import Pod
from edgeagent_security.config import ImagesConfig
from edgeagent_security.containerspolicy import read_policy
from edgeagent_security.imagereference import MAX_LENGTH, ImageReference, parse
from edgeagent_security.podsecurity.finding import containers

SECTION = "plugins.security.images"


def image_violations(pod: Pod, config: ImagesConfig) -> list[Violation]:
    """What the images of a pod break, each by its field. Reads ``policy_file`` where it is needed."""
    return [
        Violation(field=f"{place.path}.image", message=message)
        for place in containers(pod)
        for message in _problems(place.container.image, config)
    ]


def _problems(image: str, config: ImagesConfig) -> Iterator[str]:
    if not (config.allowed or config.require_digest or config.require_signatures):
        return
    shown = f'image "{image[:200]}"'
    reference = parse(image)
    if reference is None:
        yield f"{shown} is not an image's name of at most {MAX_LENGTH} characters"
        return
    if config.require_digest and not reference.pinned:
        yield f"{shown} must be named by its digest, NAME@sha256:… ({SECTION}.require_digest)"
    if not (config.allowed or config.require_signatures):
        return
    if not reference.registry:
        # Podman looks in several places for a name without one, so that none could be held against a rule.
        yield f"{shown} must begin with its registry, such as docker.io/library ({SECTION})"
        return
    if config.allowed and not any(_matches(one, reference, any_port=False) for one in config.allowed):
        yield f"{shown} does not come from an allowed registry or repository ({SECTION}.allowed)"
    if any(_matches(one, reference, any_port=True) for one in config.require_signatures):
        yield from _unsigned(shown, reference, Path(config.policy_file))


def _unsigned(shown: str, reference: ImageReference, file: Path) -> Iterator[str]:
    rule = f"{shown} must be signed ({SECTION}.require_signatures)"
    try:
        policy = read_policy(file)
    except ValueError as error:
        yield f"{rule}: {file} {error}"
        return
    scope, is_asked = policy.asks_signature(reference)
    if not is_asked:
        yield f"{rule}: {scope} of {file} has neither signedBy nor sigstoreSigned"


def _matches(pattern: str, reference: ImageReference, *, any_port: bool) -> bool:
    """Whether ``reference`` is below ``pattern``.

    A host's name has no case. ``any_port``: a pattern without a port holds for all of the host's, so that no
    port leads around a rule.
    """
    host, _, path = pattern.partition("/")
    wanted, found = host.removesuffix(":443"), reference.registry.lower().removesuffix(":443")
    if any_port and ":" not in wanted and not found.endswith("]"):
        found = found.rpartition(":")[0] or found
    segments = [segment for segment in path.split("/") if segment]
    return _same_host(wanted, found) and _begins_with(reference.path.split("/"), segments)


def _same_host(wanted: str, found: str) -> bool:
    if not wanted.startswith("*."):
        return wanted == found
    domain = wanted.removeprefix("*")
    return found.endswith(domain) and len(found) > len(domain)


def _begins_with(path: Sequence[str], segments: Sequence[str]) -> bool:
    return len(path) >= len(segments) and all(map(fnmatchcase, path, segments))
