"""File descriptors that a plugin hands to the core, out of its lane's process too.

A method that answers with one says so by its type: a struct that derives from ``DescriptorHolder``. The lane
carries the descriptor beside the answer (SCM_RIGHTS, unix(7)). Whoever holds the answer owns the descriptor:
the plugin does no longer from the moment it returns, and where nobody waits for it the lane closes it.
"""

import contextlib
import os

from edgeagent.api.objects.base import KubernetesStruct

NO_DESCRIPTOR = -1


class DescriptorHolder(KubernetesStruct, frozen=True):
    """An answer with an open file descriptor of this process, which its receiver must close."""

    descriptor: int = NO_DESCRIPTOR


def release(value: object) -> None:
    """Close what ``value`` holds, where it holds anything: it reached nobody."""
    if isinstance(value, DescriptorHolder) and value.descriptor >= 0:
        with contextlib.suppress(OSError):  # it was closed by whoever made it
            os.close(value.descriptor)


def is_open(holder: DescriptorHolder) -> bool:
    """Whether what it holds is a descriptor of this process at all."""
    if holder.descriptor < 0:
        return False
    try:
        os.fstat(holder.descriptor)
    except OSError:
        return False
    return True
