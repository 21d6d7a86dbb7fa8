"""Standard input and output as ends of a stream: pipes, files, ends, readers that go, and no leftovers."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.cli.console import Input, Output


async def _all(descriptor: int) -> bytes:
    given, found = Input(descriptor), b""
    async with asyncio.timeout(20):
        while data := await given.read():
            found += data
    return found


def test_what_comes_in_from_a_file_a_pipe_and_from_nowhere(tmp_path: Path) -> None:
    content = bytes(range(256)) * 500
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        assert asyncio.run(_all(file.fileno())) == content
    with Path(os.devnull).open("rb") as nothing:
        assert asyncio.run(_all(nothing.fileno())) == b""
    with subprocess.Popen(["cat", tmp_path / "file"], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        assert asyncio.run(_all(cat.stdout.fileno())) == content
    reading, writing = os.pipe()
    os.close(writing)
    os.close(reading)
    assert asyncio.run(_all(reading)) == b"", "as `<&-` leaves it"


def test_the_descriptors_stay_blocking_for_whoever_shares_them() -> None:
    async def main() -> None:
        reading = asyncio.create_task(Input(there).read())
        await asyncio.sleep(0.05)
        assert os.get_blocking(there)
        await Output(here).write(b"x")
        assert os.get_blocking(here)
        assert await reading == b"x"

    there, here = os.pipe()
    asyncio.run(main())
    os.close(there)
    os.close(here)


def test_output_that_cannot_be_written_says_why() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(PermanentError, match="the output cannot be written: No space left on device"):
        asyncio.run(Output(full).write(b"x"))
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        asyncio.run(Output(writing).write(b"x"))
    os.close(writing)
    os.close(full)


def test_pieces_are_told_once_they_are_written_and_in_order(tmp_path: Path) -> None:
    told: list[bytes] = []

    async def main(descriptor: int) -> None:
        output = Output(descriptor, told.append)
        await asyncio.gather(*(output.write(b"%d " % number) for number in range(50)))

    with (tmp_path / "out").open("wb") as file:
        asyncio.run(main(file.fileno()))
    assert (tmp_path / "out").read_bytes() == b"".join(told) == b"".join(b"%d " % n for n in range(50))


def test_a_reader_that_does_not_read_does_not_keep_the_program_from_ending() -> None:
    program = (
        "import asyncio, os\n"
        "from edgeagent.cli.console import Output\n"
        "async def main():\n"
        "    writing = asyncio.create_task(Output(1).write(bytes(1_000_000)))\n"
        "    await asyncio.sleep(0.3)\n"
        "    writing.cancel()\n"
        "asyncio.run(main())\n"
    )
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], stdout=writing, timeout=20, check=False
    )
    assert done.returncode == 0
    os.close(reading)
    os.close(writing)
