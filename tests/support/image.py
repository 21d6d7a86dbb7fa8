"""The test image: Debian's static busybox and links for its applets, and nothing else."""

import io
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "sys": 0o755,
    "tmp": 0o1777,
}


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry  # times and owners stay 0, so that the same busybox always gives the same bytes


def busybox_rootfs_tar(path: Path, busybox: Path = BUSYBOX) -> Path:
    """Write a root file system for ``podman import`` to ``path`` and return it."""
    listing = subprocess.run([str(busybox), "--list"], check=True, capture_output=True, text=True, timeout=10)
    program = busybox.read_bytes()
    with tarfile.open(path, "w") as tar:
        for name, mode in _DIRECTORIES.items():
            tar.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for name, text in _FILES.items():
            data = text.encode()
            entry = _entry(name, tarfile.REGTYPE, 0o644)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        entry = _entry("bin/busybox", tarfile.REGTYPE, 0o755)
        entry.size = len(program)
        tar.addfile(entry, io.BytesIO(program))
        for applet in sorted(set(listing.stdout.split()) - {"busybox"}):
            link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
            link.linkname = "busybox"
            tar.addfile(link)
    return path
