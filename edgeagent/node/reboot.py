"""Restarting the machine when an operator asks for it."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.objects.decode import decode_json
from edgeagent.wire.rpc import RebootParams, RebootResult

Runner = Callable[[Sequence[str]], Awaitable[None]]


class Reboot:
    """Runs ``command``; where it is empty, systemd's, or ``/sbin/reboot`` on a machine without systemd."""

    def __init__(self, command: Sequence[str], *, run: Runner, root: Path, boot_id: str) -> None:
        self._command = command
        self._run = run
        self._root = root
        self._boot_id = boot_id

    async def call(self, params: msgspec.Raw, limit: int) -> RebootResult:
        """The remote call ``reboot``: answered once the machine has begun to go down."""
        decode_json(bytes(params), RebootParams)
        try:
            await self._run(self._argv())
        except EdgeAgentError as error:
            raise TemporaryError(f"the node cannot be rebooted: {error}", reason="RebootFailed") from None
        return RebootResult(boot_id=self._boot_id)

    def _argv(self) -> Sequence[str]:
        if self._command:
            return self._command
        # sd_booted(3)
        return ["systemctl", "reboot"] if (self._root / "run/systemd/system").is_dir() else ["/sbin/reboot"]
