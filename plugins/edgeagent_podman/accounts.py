"""Users and groups of images: what their ``/etc/passwd`` and ``/etc/group`` say.

Podman gives a user the groups that the image lists for them, but none of those where the user's own group
is named (``1000:3000``). Kubernetes means them to be merged there, too.
https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#supplementalgroupspolicy
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from edgeagent_podman.answers import failure, segment
from edgeagent_podman.spec import NAME_IN_USE

if TYPE_CHECKING:
    from edgeagent_podman.client import PodmanClient

_MAX_FILE_BYTES = 1024 * 1024
_MAX_IMAGES = 256


def memberships(passwd: str, group: str, uid: int) -> list[int]:
    """The groups that ``group`` lists for the user whom ``passwd`` calls ``uid``, as in group(5)."""
    names = (fields[0] for fields in _lines(passwd, 7) if fields[2] == str(uid))
    if (name := next(names, None)) is None:
        return []
    numbers = {fields[2] for fields in _lines(group, 4) if name in fields[3].split(",")}
    return sorted(int(number) for number in numbers if number.isascii() and number.isdigit())


class Accounts:
    """The accounts of images, each of which is looked into once; ``client`` as in ``Images``."""

    def __init__(self, client: "Callable[[], PodmanClient]") -> None:
        self._client = client
        self._known: dict[str, tuple[str, str]] = {}

    def groups(self, image_id: str, uid: int, container: str) -> list[int]:
        """The groups that the image lists for ``uid``, for the container of that name."""
        if image_id not in self._known:
            files = self._read(image_id, f"{container}-accounts")
            if len(self._known) >= _MAX_IMAGES:
                self._known.clear()
            self._known[image_id] = files
        return memberships(*self._known[image_id], uid)

    def _read(self, image_id: str, name: str) -> tuple[str, str]:
        """``/etc/passwd`` and ``/etc/group``; Podman reads files of containers only, so one is made."""
        body = msgspec.json.encode(
            {
                "name": name,
                "image": image_id,
                "entrypoint": ["/"],
                "netns": {"nsmode": "host"},
                "image_volume_mode": "ignore",
            }
        )
        answer = self._client().post("containers/create", body=body)
        # One by that name was left when the power went, and is as good.
        if not answer.ok and answer.error().cause != NAME_IN_USE:
            raise failure(f"look into image {image_id[:12]}", answer)
        path = f"containers/{segment(name, 'container')}"
        try:
            return self._file(path, "/etc/passwd"), self._file(path, "/etc/group")
        finally:
            self._client().delete(path, {"force": "true"})

    def _file(self, container: str, name: str) -> str:
        answer = self._client().get(f"{container}/archive", {"path": name})
        if answer.status == 404:
            return ""
        if not answer.ok:
            raise failure(f"read {name} of an image", answer)
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None and member.isreg() else None
            return "" if file is None else file.read(_MAX_FILE_BYTES).decode("utf-8", "replace")


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= fields:
            yield parts
