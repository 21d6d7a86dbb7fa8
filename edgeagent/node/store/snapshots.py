"""When a whole copy of the store is made: some time after a change, off the loop, and at an orderly end."""

import asyncio
import logging

from edgeagent.api.errors import EdgeAgentError
from edgeagent.node.store.database import Database

log = logging.getLogger(__name__)

SNAPSHOT_DELAY_SECONDS = 30.0
"""After a switch, so that a burst of them makes one copy, and not while containers are being started."""


class Snapshots:
    """One for a store, on the loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._due: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """The store holds something new; call it on the loop."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(SNAPSHOT_DELAY_SECONDS, self._begin)

    def finish(self) -> None:
        """Make the copy that is due, now."""
        if self._due is not None:
            self._due.cancel()
            self._make()

    def _begin(self) -> None:
        making = asyncio.get_running_loop().run_in_executor(None, self._make)
        making.add_done_callback(self._end)

    def _end(self, _made: "asyncio.Future[None]") -> None:
        self._due = None

    def _make(self) -> None:
        try:
            self._database.snapshot()
        except EdgeAgentError as error:
            log.warning("no snapshot of the store could be made: %s", error)
