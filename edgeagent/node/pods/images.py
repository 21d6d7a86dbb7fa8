"""Getting a container's image, as its pull policy says, with the pod's pull secrets.

https://kubernetes.io/docs/concepts/containers/images/#image-pull-policy — with one difference: ``Always``
asks the registry once for each pod and spec, not at each restart, for a restart must not need a network.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import Pod
from edgeagent.api.runtime import PullCredentials
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.pods.lookup import Lookup

PullPolicy = Literal["Always", "IfNotPresent", "Never"]

MAX_DOCKER_CONFIG = 1024 * 1024
"""The longest pull secret that is read, in bytes: as long as Kubernetes lets a Secret be."""
MAX_CREDENTIALS = 16
"""How many credentials are tried for one image."""

SIGNATURE_REFUSED = "SignatureValidationFailed"
"""kubelet's reason for an image that lacks a signature it must have, or comes from a forbidden place."""

_DEFAULT_REGISTRY = "docker.io"
_DEFAULT_REGISTRY_KEY = "index.docker.io"


class _Entry(msgspec.Struct, frozen=True):
    username: str = ""
    password: str = ""
    auth: str = ""


class _DockerConfig(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry] = {}


def pull_policy(container: Container) -> PullPolicy:
    """The policy in force; where none is set, ``Always`` for ``latest`` or no tag, else ``IfNotPresent``."""
    if container.image_pull_policy:
        return container.image_pull_policy
    name = container.image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    return "Always" if ":" not in name or name.endswith(":latest") else "IfNotPresent"


async def pull(
    runtime: RuntimeFacade, container: Container, credentials: Sequence[PullCredentials] = ()
) -> None:
    """Fetch the image, with each of the credentials until one will do, then without.

    Without means with what the runtime itself is configured with: a node-wide ``auth.json`` is Podman's.
    TemporaryError with reason ``ErrImagePull`` where the registry does not give it, PermanentError with
    reason ``SignatureValidationFailed`` where the node's own policy refuses what it gave.
    """
    problems: list[str] = []
    for each in (*credentials, None):
        try:
            await runtime.pull_image(container.image, each)
        except TemporaryError as error:
            if error.reason not in ("", "ErrImagePull"):
                raise
            problems.append(str(error))
        except PermanentError as error:
            if error.reason == SIGNATURE_REFUSED or (each is None and not problems):
                raise
            problems.append(str(error))
        else:
            return
    raise TemporaryError(f"{container.image}: {'; '.join(dict.fromkeys(problems))}", reason="ErrImagePull")


async def require_present(runtime: RuntimeFacade, container: Container) -> None:
    """PermanentError with reason ``ErrImageNeverPull`` where the image is not on the node."""
    if await runtime.find_image(container.image) is None:
        raise PermanentError(
            f"{container.image} is not on this node, and imagePullPolicy is Never", reason="ErrImageNeverPull"
        )


async def pull_credentials(
    pod: Pod, reference: str, lookup: Lookup
) -> tuple[list[PullCredentials], list[str]]:
    """What the pod's ``imagePullSecrets`` hold for the image ``reference``, the longest match first.

    Also a sentence for each secret that is not there or cannot be read: as in Kubernetes, the pull goes on
    without it. https://kubernetes.io/docs/concepts/containers/images/#config-json
    """
    entries: list[tuple[str, PullCredentials]] = []
    warnings: list[str] = []
    for name in dict.fromkeys(each.name for each in pod.spec.image_pull_secrets if each.name):
        try:
            if (secret := await lookup.secret(name)) is None:
                raise ValueError("not found")
            entries += _entries(secret)
        except (ValueError, TemporaryError, PermanentError) as error:
            warnings.append(f"Unable to retrieve image pull secret {name!r}: {error}")
    # Longer, that is more specific, keys come before those that they begin with.
    entries.sort(key=lambda entry: entry[0], reverse=True)
    repository = _repository(reference)
    found = [credentials for key, credentials in entries if _matches(key, repository)]
    if not found and repository.startswith(f"{_DEFAULT_REGISTRY}/"):
        found = [credentials for key, credentials in entries if key == _DEFAULT_REGISTRY_KEY]
    return list(dict.fromkeys(found))[:MAX_CREDENTIALS], warnings


def _entries(secret: Secret) -> Iterator[tuple[str, PullCredentials]]:
    """Each registry of a pull secret with its credentials; ValueError where it is none."""
    try:
        match secret.type:
            case "kubernetes.io/dockerconfigjson":
                auths = msgspec.json.decode(_bounded(secret, ".dockerconfigjson"), type=_DockerConfig).auths
            case "kubernetes.io/dockercfg":
                auths = msgspec.json.decode(_bounded(secret, ".dockercfg"), type=dict[str, _Entry])
            case _:
                raise ValueError(f"its type is {secret.type[:80]}, not a pull secret's")
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        # What the parser has to say may quote a password.
        raise ValueError("it holds no valid Docker configuration") from None
    return _credentials(auths)


def _bounded(secret: Secret, key: str) -> bytes:
    if (data := secret.data.get(key)) is None:
        raise ValueError(f"it has no key {key}")
    if len(data) > MAX_DOCKER_CONFIG:
        raise ValueError(f"{key} is longer than {MAX_DOCKER_CONFIG} bytes")
    return data


def _credentials(auths: Mapping[str, _Entry]) -> Iterator[tuple[str, PullCredentials]]:
    for address, entry in auths.items():
        username, password = entry.username, entry.password
        if entry.auth:
            username, password = _decoded(entry.auth)
        if username or password:
            yield _key(address), PullCredentials(username=username, password=password)


def _decoded(auth: str) -> tuple[str, str]:
    text = auth.strip().rstrip("=")  # the padding may be there or not
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
        username, colon, password = decoded.partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise ValueError("an auth field is not base64 of user:password")
    return username, password


def _key(address: str) -> str:
    """``host[:port][/path]``: no scheme, and ``/v1/`` and ``/v2/`` are the registry itself."""
    bare = address.removeprefix("https://").removeprefix("http://")
    host, slash, path = bare.partition("/")
    if path.startswith(("v1/", "v2/")):
        path = path[3:]
    return f"{host}/{path}" if slash and path else host


def _repository(reference: str) -> str:
    """``registry/path`` of an image, without tag and digest; Docker Hub's where no registry is named."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    first, slash, rest = name.partition("/")
    if not slash:
        return f"{_DEFAULT_REGISTRY}/library/{name}"
    if "." not in first and ":" not in first and first != "localhost":
        return f"{_DEFAULT_REGISTRY}/{name}"
    if first == _DEFAULT_REGISTRY_KEY:
        first = _DEFAULT_REGISTRY
    if first == _DEFAULT_REGISTRY and "/" not in rest:
        rest = f"library/{rest}"
    return f"{first}/{rest}"


def _matches(key: str, repository: str) -> bool:
    """Whether host labels (each may hold ``*``) and port are equal and the path begins with the key's."""
    host, _, path = key.partition("/")
    target_host, _, target_path = repository.partition("/")
    name, _, port = host.partition(":")
    target_name, _, target_port = target_host.partition(":")
    labels, target_labels = name.split("."), target_name.split(".")
    return (
        port == target_port
        and len(labels) == len(target_labels)
        and target_path.startswith(path)
        and all(len(label) <= 63 for label in labels)
        and all(map(fnmatchcase, target_labels, labels))
    )
