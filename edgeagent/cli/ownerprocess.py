"""What a process that holds keys and Secrets does first."""

import os
import resource


def keep_to_owner() -> None:
    """Files that it makes are its owner's alone, and what is in its memory goes to no core dump.

    Its children inherit both. Where the kernel pipes dumps to a program, that program must heed the limit of
    the process, as systemd-coredump does.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
