"""What was last good in the folder, on disk: an agent that starts upon a broken file goes on with it.

One file beside the store, not in it: static pods need no store. It holds no Secret. Losing it loses nothing
but what a broken file held before it was broken.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.decode import decode_json, validate
from edgeagent.node.privatefiles import write_private
from edgeagent.node.static.manifest import KeptObject, StaticObject
from edgeagent.wire.canonical import canonical_json

log = logging.getLogger(__name__)

MAX_BYTES = 64_000_000


class GoodFile(msgspec.Struct, frozen=True):
    """A file of the folder as it was last read without a problem; ``digest`` is that of its bytes.

    ``whole``: whether ``objects`` is all that it holds.
    """

    digest: str
    objects: list[StaticObject] = msgspec.field(default_factory=list)
    whole: bool = True


class _File(KubernetesStruct, frozen=True):
    digest: str
    whole: bool
    objects: list[KeptObject] = []


class _Kept(KubernetesStruct, frozen=True):
    """``node``: of another node's name nothing is of use, for names and uids are made with it."""

    version: int
    node: str
    folder: str
    files: dict[str, _File] = {}


_VERSION = 1


class KeptFiles:
    """Reads and writes ``path``. Neither may fail: what cannot be kept is logged."""

    def __init__(self, path: Path, *, node: str, folder: Path) -> None:
        self._path = path
        self._node = node
        self._folder = str(folder)
        self._written = b""

    def load(self) -> dict[str, GoodFile]:
        """The files by name; none where nothing, or nothing of use, was kept."""
        try:
            with open(self._path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
            kept = decode_json(data, _Kept, limit=MAX_BYTES)
            for file_ in kept.files.values():
                for one in file_.objects:
                    validate(one)
        except FileNotFoundError:
            return {}
        except (OSError, EdgeAgentError) as error:
            log.warning("what was last good of the static pods cannot be read: %s", error)
            return {}
        if (kept.version, kept.node, kept.folder) != (_VERSION, self._node, self._folder):
            return {}
        self._written = data
        return {name: GoodFile(f.digest, list(f.objects), f.whole) for name, f in kept.files.items()}

    def save(self, files: Mapping[str, GoodFile]) -> None:
        """Keep ``files``, in place of what was kept before; a disk that has them already is not written."""
        kept = _Kept(
            version=_VERSION,
            node=self._node,
            folder=self._folder,
            files={name: _without_secrets(file) for name, file in files.items()},
        )
        data = canonical_json(kept)
        if data == self._written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self._path, data)
        except OSError as error:
            log.warning("what is good of the static pods cannot be kept: %s", error)
        else:
            self._written = data


def _without_secrets(file: GoodFile) -> _File:
    objects = [one for one in file.objects if not isinstance(one, Secret)]
    return _File(digest=file.digest, whole=file.whole and len(objects) == len(file.objects), objects=objects)
