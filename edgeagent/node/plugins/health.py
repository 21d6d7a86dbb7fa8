"""A plugin's state: Loaded, Running, Backoff, Failed, Stopped, each with a reason a person can read.

Only faults (``faults.py`` has the rule) count: after FAULTS_IN_A_ROW of them the plugin is in Backoff,
where calls are refused at once, for a random time up to a bound that doubles up to a ceiling (full jitter).
The first call after that is let through; an answer of any kind ends the Backoff, another fault prolongs it.
Failed lasts until the agent restarts. No timer runs: the state is looked at when a call comes.
"""

from collections.abc import Callable
from random import Random
from typing import Literal

from edgeagent.api.clock import Clock
from edgeagent.api.errors import TemporaryError

State = Literal["Loaded", "Running", "Backoff", "Failed", "Stopped"]

FAULTS_IN_A_ROW = 3
BACKOFF_BASE_SECONDS = 1.0
BACKOFF_CEILING_SECONDS = 300.0


def jitter(random: Random, attempt: int) -> float:
    """A pause before try number ``attempt`` (from 0): full jitter under a doubling bound with a ceiling."""
    bound = BACKOFF_BASE_SECONDS * 2.0 ** min(attempt, 32)
    return random.uniform(0, min(BACKOFF_CEILING_SECONDS, bound))


class Health:
    """The state machine of one plugin. ``on_change`` is called when state or reason differ from before."""

    def __init__(self, plugin: str, clock: Clock, random: Random, on_change: Callable[[], None]) -> None:
        self._plugin = plugin
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self.state: State = "Loaded"
        self.reason = ""
        self._worked = False
        self._faults = 0
        self._backoffs = 0
        self._until = 0.0

    def admit(self) -> None:
        """Raises for a call that may not be made now."""
        if self.state == "Failed":
            # Not a PermanentError, which would say that the object of the call is at fault.
            raise TemporaryError(f"plugin {self._plugin} has failed: {self.reason}", reason="PluginFailed")
        if self.state == "Stopped":
            raise TemporaryError(f"plugin {self._plugin} is stopped", reason="PluginStopped")
        if self.state == "Backoff" and (remaining := self._until - self._clock.monotonic()) > 0:
            raise TemporaryError(
                f"plugin {self._plugin} is left alone for {remaining:.0f} s: {self.reason}",
                delay=remaining,
                reason="PluginBackoff",
            )

    def succeeded(self) -> None:
        """A call returned."""
        self._worked = True
        self._well()

    def answered(self) -> None:
        """A call raised an error on purpose: the plugin is well, the object it was about is not."""
        self._well()

    def _well(self) -> None:
        self._faults = 0
        if self.state in ("Loaded", "Running", "Backoff"):
            self._backoffs = 0
            self._set("Running" if self._worked else "Loaded", "")

    def faulted(self, message: str) -> None:
        """A call failed in a way that counts against the plugin."""
        if self.state in ("Failed", "Stopped"):
            return
        now = self._clock.monotonic()
        self._faults += 1
        if self.state == "Backoff" and now < self._until:
            return  # it began before the Backoff did, which takes care of it already
        if self._faults < FAULTS_IN_A_ROW:
            return
        self._until = now + jitter(self._random, self._backoffs)
        self._backoffs += 1
        self._set("Backoff", message)

    def fail(self, reason: str) -> None:
        """The plugin is not called again until the agent restarts."""
        if self.state != "Stopped":
            self._set("Failed", reason)

    def stop(self) -> None:
        """The agent is stopping. A plugin that failed stays Failed, for the reason is worth keeping."""
        if self.state != "Failed":
            self._set("Stopped", "")

    def _set(self, state: State, reason: str) -> None:
        if (state, reason) != (self.state, self.reason):
            self.state, self.reason = state, reason
            self._on_change()
