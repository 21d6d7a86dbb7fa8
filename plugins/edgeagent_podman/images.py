"""Images on this node and from registries."""

import base64
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.runtime import Image, ImageRecord, PullCredentials
from edgeagent_podman import spec
from edgeagent_podman.answers import failure, segment
from edgeagent_podman.config import PodmanConfig

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

_BAD_REFERENCE = "invalid reference format"
_REJECTED = "Source image rejected: "
"""Before what policy.json has against an image, in the words of containers/image."""


class _Use(msgspec.Struct, frozen=True):
    """A container in a list, as far as its image goes."""

    image_id: str = msgspec.field(default="", name="ImageID")


class Images:
    """The images of one Podman; ``client`` gives the connection to it when it is first needed."""

    def __init__(self, client: "Callable[[], PodmanClient]", config: PodmanConfig) -> None:
        self._client = client
        self._config = config

    def find(self, reference: str) -> Image | None:
        """The image, as Podman resolves ``reference`` among those it holds."""
        answer = self._client().get(f"images/{segment(reference, 'image')}/json")
        if answer.ok:
            data = self._client().decode(answer.body, spec.ImageData)
            return Image(id=data.id, reference=reference, user=data.user)
        if answer.error().cause == _BAD_REFERENCE:
            raise _bad_reference(reference)
        if answer.status == 404:
            return None
        raise failure(f"look for image {reference}", answer)

    def pull(self, reference: str, credentials: PullCredentials | None) -> Image:
        """Pull from the registry, whether the image is here or not."""
        # Not quiet, Podman reports each blob once and is silent for as long as it takes: no better a sign
        # of life. Quiet, it gives up the pull when this side hangs up.
        params = {"reference": reference, "quiet": "true"}
        if any(reference.startswith(f"{host.rstrip('/')}/") for host in self._config.insecure_registries):
            params["tlsVerify"] = "false"
        headers = {}
        if credentials is not None:
            plain = json.dumps({"username": credentials.username, "password": credentials.password})
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(plain.encode()).decode()
        timeout = self._config.pull_timeout
        answer = self._client().post("images/pull", params, headers=headers, timeout=timeout)
        if not answer.ok:
            raise _pull_error(reference, answer.error().message)
        image_id = ""
        for line in answer.body.splitlines():
            if line.strip():
                report = self._client().decode(line, spec.PullReport)
                if report.error:
                    raise _pull_error(reference, report.error)
                image_id = report.id or image_id
        if not image_id:
            raise _pull_error(reference, "Podman's answer names no image")
        # The answer does not tell the image's user.
        found = self.find(image_id)
        return Image(id=image_id, reference=reference, user=found.user if found is not None else "")

    def list(self) -> list[ImageRecord]:
        """All images but those that are only layers of another."""
        answer = self._client().get("images/json")
        if not answer.ok:
            raise failure("list images", answer)
        return [
            ImageRecord(
                id=item.id,
                references=[*(item.repo_tags or []), *(item.repo_digests or [])],
                size=item.size,
                created_at=float(max(0, item.created)),
            )
            for item in self._client().decode(answer.body, list[spec.ImageItem])
        ]

    def remove(self, image_id: str) -> None:
        """Remove an image with all its names, which Podman does by force alone, and then with containers.

        So its names are taken first, where nothing uses it, and given back where something came between.
        """
        path = f"images/{segment(image_id, 'image')}"
        answer = self._client().get(f"{path}/json")
        if answer.status == 404:
            return
        if not answer.ok:
            raise failure(f"look for image {image_id[:19]}", answer)
        names = self._client().decode(answer.body, spec.ImageData).repo_tags or []
        if self._used(image_id):
            raise _in_use(image_id)
        answer = self._client().post(f"{path}/untag")
        if not answer.ok and answer.status != 404:
            raise failure(f"take the names of image {image_id[:19]}", answer)
        answer = self._client().delete(path)
        if answer.ok or answer.status == 404:
            return
        for name in names:
            repository, _, tag = name.rpartition(":")
            self._client().post(f"{path}/tag", {"repo": repository, "tag": tag})
        raise _in_use(image_id) if answer.status == 409 else failure(f"remove image {image_id[:19]}", answer)

    def _used(self, image_id: str) -> bool:
        """Whether a container has it, Podman's or one that only its storage knows (of a build)."""
        params = {"all": "true", "external": "true"}
        answer = self._client().get("containers/json", params)
        if not answer.ok:
            raise failure("list containers", answer)
        wanted = image_id.removeprefix("sha256:")
        items = self._client().decode(answer.body, list[_Use])
        return any(item.image_id.removeprefix("sha256:") == wanted for item in items)


def _in_use(image_id: str) -> TemporaryError:
    return TemporaryError(f"image {image_id[:19]} is used by a container", reason="ImageInUse")


def _bad_reference(reference: str) -> PermanentError:
    return PermanentError(f"{reference[:200]!r} is not an image reference", reason="InvalidImageName")


def _pull_error(reference: str, message: str) -> Exception:
    if message.endswith(_BAD_REFERENCE):
        return _bad_reference(reference)
    if _REJECTED in message:
        why = message.rpartition(_REJECTED)[2]
        problem = f"{reference} is refused by the node's policy.json: {why}"
        return PermanentError(problem, reason="SignatureValidationFailed")
    return TemporaryError(f"could not pull {reference}: {message}", reason="ErrImagePull")
