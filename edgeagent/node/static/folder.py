"""StaticPods: what the folder of manifests says now, kept up to date for as long as the agent runs."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.node.static.folderwatch import FolderWatch
from edgeagent.node.static.kept import GoodFile, KeptFiles
from edgeagent.node.static.manifest import (
    Key,
    Merged,
    Origin,
    StaticObject,
    aged,
    key_of,
    merge,
    read_objects,
)
from edgeagent.node.static.texts import Documents, Text, Texts, is_manifest, parse, read_folder

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.25
"""A change is read once nothing has changed for so long: editors write a file in several steps."""
SETTLE_LIMIT_SECONDS = 3.0
RETRY_SECONDS = 30.0
"""How soon a folder that could not be read or watched is tried again."""
MAX_PROBLEM_CHARACTERS = 500

Warn = Callable[[str, str], None]
"""Takes the reason and the message of a Warning event about this node."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with one file. ``digest``: of the bytes that it is wrong with, empty for unreadable."""

    text: str
    digest: str = ""


class StaticPods:
    """Reads ``folder`` now and after every change; ``on_objects`` gets all static objects, by uid.

    It is called for the first time once the folder has been read, then whenever the objects differ. Of a
    file that cannot be used, what it last held stays.
    """

    def __init__(
        self,
        folder: Path,
        *,
        node: str,
        clock: Clock,
        kept: KeptFiles,
        on_objects: Callable[[Mapping[str, StaticObject]], None],
        on_problems: Callable[[], None],
        warn: Warn,
    ) -> None:
        self.folder = folder
        self.objects: Mapping[str, StaticObject] = {}
        """All objects of the folder, by uid."""
        self.problems: Mapping[str, str] = {}
        """What is wrong, by the path of the file, or of the folder."""
        self._node = node
        self._clock = clock
        self._kept = kept
        self._on_objects = on_objects
        self._on_problems = on_problems
        self._warn = warn
        self._good: dict[str, GoodFile] = {}
        self._bad: dict[str, Problem] = {}
        self._owners: Mapping[Key, str] = {}
        self._doubles: Mapping[str, str] = {}
        self._told = False
        self._news = asyncio.Event()
        self._watch = FolderWatch(folder, self._news.set, matters=is_manifest)

    async def run(self) -> None:
        """Until cancelled."""
        self._good = await asyncio.to_thread(self._kept.load)
        self._owners = {key_of(one): name for name, file in self._good.items() for one in file.objects}
        try:
            while True:
                sound = await self._look()
                await self._wait(None if sound else RETRY_SECONDS)
                await self._settle()
        finally:
            self._watch.stop()

    async def _look(self) -> bool:
        """Watch and read the folder once; whether both could be done."""
        trouble = ""
        self._news.clear()
        try:
            if not self._watch.alive:
                self._watch.start()
        except TemporaryError as error:
            trouble = f"changes are not noticed at once: {error}"
        try:
            await self._read()
        except TemporaryError as error:
            trouble = str(error)
            if self._good and not self._told:
                # What was good when the agent last ran.
                self._tell(merge({name: file.objects for name, file in self._good.items()}, self._owners))
        self._say(trouble)
        return not trouble

    async def _read(self) -> None:
        texts = await asyncio.to_thread(read_folder, self.folder)
        unread = {name: text for name, text in texts.files.items() if not self._is_known(name, text)}
        self._take(texts, await parse(unread))
        merged = merge({name: file.objects for name, file in self._good.items()}, self._owners)
        self._owners = merged.owners
        self._tell(merged)
        self._kept.save({name: _owned(name, file, merged.owners) for name, file in self._good.items()})

    def _is_known(self, name: str, text: Text) -> bool:
        good, bad = self._good.get(name), self._bad.get(name)
        if bad is not None and bad.digest == text.digest:
            return True
        return good is not None and good.whole and good.digest == text.digest

    def _take(self, texts: Texts, parsed: Mapping[str, Documents | str]) -> None:
        """From what was read to what is good and bad; a bad file keeps what was good of it."""
        good: dict[str, GoodFile] = {}
        bad = {name: Problem(text) for name, text in texts.problems.items()}
        for name, text in texts.files.items():
            documents = parsed.get(name)
            known = self._bad.get(name)
            if documents is None and known is not None and known.digest == text.digest:
                bad[name] = known
            elif documents is None:
                good[name] = self._good[name]
            elif isinstance(documents, str):
                bad[name] = Problem(documents, text.digest)
            else:
                origin = Origin(str(self.folder / name), self._node, text.changed)
                try:
                    good[name] = GoodFile(text.digest, self._aged(read_objects(documents, origin)))
                except InvalidObjectError as error:
                    bad[name] = Problem(str(error), text.digest)
        for name in bad:
            if (before := self._good.get(name)) is not None:
                good[name] = before
        self._good, self._bad = good, bad

    def _aged(self, objects: Sequence[StaticObject]) -> list[StaticObject]:
        before = {one.metadata.uid: one for file in self._good.values() for one in file.objects}
        return [aged(one, before.get(one.metadata.uid)) for one in objects]

    def _tell(self, merged: Merged) -> None:
        self._doubles = merged.doubles
        if not self._told or merged.objects != self.objects:
            self._told = True
            self.objects = merged.objects
            self._on_objects(merged.objects)

    def _say(self, trouble: str) -> None:
        """An event for each problem that is new, a line in the log for each that is gone."""
        found = {str(self.folder): trouble} if trouble else {}
        for name, problem in sorted(self._bad.items()):
            since = "what it held before stays" if name in self._good else "nothing of it is used"
            found[str(self.folder / name)] = f"{problem.text} ({since})"
        for name, text in self._doubles.items():
            path = str(self.folder / name)
            found[path] = f"{found[path]}; {text}" if path in found else text
        found = {path: text[:MAX_PROBLEM_CHARACTERS] for path, text in found.items()}
        before, self.problems = self.problems, found
        for path, text in found.items():
            if before.get(path) != text:
                self._warn("StaticPodFailed", f"{path}: {text}")
        for path in before.keys() - found.keys():
            log.info("%s is in order again", path)
        if before != found:
            self._on_problems()

    async def _wait(self, seconds: float | None) -> None:
        """Until there is news, or for ``seconds``."""
        if seconds is None:
            await self._news.wait()
            return
        news = asyncio.ensure_future(self._news.wait())
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((news, pause), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            pause.cancel()

    async def _settle(self) -> None:
        """Let a burst of changes pass, but not for ever."""
        latest = self._clock.monotonic() + SETTLE_LIMIT_SECONDS
        while self._news.is_set() and self._clock.monotonic() < latest:
            self._news.clear()
            await self._clock.sleep(SETTLE_SECONDS)


def _owned(name: str, file: GoodFile, owners: Mapping[Key, str]) -> GoodFile:
    """The file without what another file defines."""
    objects = [one for one in file.objects if owners[key_of(one)] == name]
    return GoodFile(file.digest, objects, whole=len(objects) == len(file.objects))
