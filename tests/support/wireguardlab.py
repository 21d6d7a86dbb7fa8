"""WireGuard on a lab's host. wireguard-go keeps its socket under /run/wireguard, so each host has its own."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeagent_network.programs import Runner, run_program
from tests.support.netlab import Host
from tests.support.waiting import wait_for

SOCKETS = Path("/run/wireguard")
_HOLD = f"mount -t tmpfs tmpfs {SOCKETS} && echo ready && exec sleep infinity"


def missing() -> str:
    """What this machine lacks for WireGuard; empty where it has all."""
    if shutil.which("wg") is None:
        return "wg(8) is not installed (Debian's package wireguard-tools)"
    if shutil.which("wireguard-go") is None and not Path("/sys/module/wireguard").exists():
        return "neither has the kernel the module wireguard nor is wireguard-go installed"
    return "" if Path("/dev/net/tun").exists() else "/dev/net/tun is not there"


class WireGuardHost:
    """``run`` is the host's runner, with a place of its own for WireGuard's sockets."""

    def __init__(self, host: Host) -> None:
        self._host = host
        SOCKETS.mkdir(exist_ok=True)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _HOLD],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.run: Runner = self._run

    def _run(self, argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        if argv[0] not in ("wg", "wireguard-go"):
            return self._host.run(argv, stdin, check=check)
        enter = [
            *("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"),
            f"--net=/run/netns/{self._host.name}",
        ]
        return run_program([*enter, *argv], stdin, check=check)

    def programs(self, folder: Path) -> Path:
        """``folder``, with ``wg`` and ``wireguard-go`` made in it: first in the PATH of whoever is in the
        host's network already, they find WireGuard's sockets in their place.
        """
        folder.mkdir()
        for name in ("wg", "wireguard-go"):
            file = folder / name
            enter = f"exec nsenter --mount=/proc/{self._holder.pid}/ns/mnt -- {shutil.which(name)}"
            file.write_text(f'#!/bin/sh\n{enter} "$@"\n')
            file.chmod(0o755)
        return folder

    def close(self) -> None:
        """End it; the program ends with its link."""
        self._host.run(["ip", "link", "del", "dev", "edge-wg"], check=False)
        sockets = Path(f"/proc/{self._holder.pid}/root{SOCKETS}")
        wait_for(lambda: not list(sockets.glob("*.sock")))
        self._holder.kill()
        self._holder.communicate()
