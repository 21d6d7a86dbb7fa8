"""Volumes: a pod's volumes as folders of the node, and how its containers see them.

Knows what a pod's spec says and where things lie on the node. May not know of containers' lifecycle,
plugins or the store.
"""

from edgeagent.node.pods.volumes.mounter import Mounter, SystemMounter
from edgeagent.node.pods.volumes.usage import VolumeUsage
from edgeagent.node.pods.volumes.volumes import Volumes

__all__ = ["Mounter", "SystemMounter", "VolumeUsage", "Volumes"]
