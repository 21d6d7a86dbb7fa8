"""``exec`` at a real terminal, with this script as the node: it tells the size, shows each key that it gets
in brackets, and ends with 5 after a ``q``.

With ``pause`` the connection is lost for good; with ``resume`` it comes back. With ``late`` the terminal was
another size when the command was asked for.
"""

import asyncio
import sys

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.cli.ending import run_to_end
from edgeagent.cli.executing import Execution, sit_down
from edgeagent.cli.terminal import Size
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.channelio import Channel, Channels
from edgeagent.wire.streamapi import CONTROL, EXIT, STDOUT, ExitStatus, TerminalSize
from tests.cli.channelpair import served


async def main(what: str) -> int:
    """Play a node that ``what`` happens to."""
    sitting = sit_down(stdin=True, tty=True, warn=print)

    async def serve(channels: Channels) -> None:
        out, control = await channels.open(STDOUT), await channels.open(CONTROL)
        stdin = await channels.accept()
        stdin.accept()
        await out.write(f"{sitting.size.columns}x{sitting.size.rows}\r\n".encode())
        sizes = asyncio.create_task(_tell_sizes(control, out))
        while True:
            keys = (await stdin.read()).decode()
            await out.write(f"[{keys!r}]\r\n".replace("'", "").encode())
            if "q" in keys:
                break
        sizes.cancel()
        out.end_writing()
        await control.request(EXIT, canonical_json(ExitStatus(exit_code=5)))

    async with served(serve) as pair:
        execution = Execution(pair.mine, sitting, Size(80, 25) if what == "late" else None)

        def cut() -> None:
            pair.held = True
            execution.paused("no connection to the broker")

        def mend() -> None:
            execution.resumed("connected again")
            pair.release()

        loop = asyncio.get_running_loop()
        if what in ("pause", "resume"):
            loop.call_later(0.5, cut)
        if what == "resume":
            loop.call_later(1.5, mend)
        return await execution.run()


async def _tell_sizes(control: Channel, out: Channel) -> None:
    while (asked := await control.next_request()) is not None:
        size = decode_json(asked[1], TerminalSize)
        await out.write(f"{size.columns}x{size.rows}\r\n".encode())


if __name__ == "__main__":
    try:
        sys.exit(run_to_end(main(sys.argv[1])))
    except EdgeAgentError as error:
        sys.exit(f"error: {error}")
