"""How much a pod's emptyDir volumes hold, and which of them hold more than they may."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeagent.api.objects.pod import Pod
from edgeagent.api.quantity import parse_quantity


@dataclass(frozen=True, slots=True)
class VolumeUsage:
    """``bytes`` on disk by the volume's name, and how many ``inodes`` all of them take."""

    bytes: Mapping[str, int] = field(default_factory=dict)
    inodes: int = 0


def measure(folders: Mapping[str, Path]) -> VolumeUsage:
    """Walk the folders, by volume's name; what vanishes meanwhile counts for nothing."""
    sizes, inodes = {}, 0
    for name, folder in folders.items():
        size = 0
        for parent, below, files in os.walk(folder):
            for entry in (*below, *files):
                try:
                    size += os.lstat(os.path.join(parent, entry)).st_blocks * 512
                except OSError:
                    continue
                inodes += 1
        sizes[name] = size
    return VolumeUsage(sizes, inodes)


def over_limit(pod: Pod, usage: VolumeUsage) -> list[str]:
    """A message, in kubelet's words, for each emptyDir that exceeds its ``sizeLimit``."""
    found = []
    for volume in pod.spec.volumes:
        limit = volume.empty_dir.size_limit if volume.empty_dir is not None else ""
        if limit != "" and usage.bytes.get(volume.name, 0) > parse_quantity(limit) > 0:
            found.append(f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". ')
    return [message.strip() for message in found]
