"""Whether systemd-creds can seal anything on this machine."""

import shutil
import subprocess
from functools import cache


@cache
def cannot_seal() -> str:
    """Why the real program cannot be used here; empty where it can."""
    if shutil.which("systemd-creds") is None:
        return "systemd-creds is not installed"
    command = ["systemd-creds", "encrypt", "--name=trial", "--with-key=host", "-", "-"]
    done = subprocess.run(command, input=b"x", capture_output=True, check=False, timeout=60)
    return "" if done.returncode == 0 else f"systemd-creds cannot seal here: {done.stderr.decode()[:200]}"
