"""Runs containers on Podman, through the REST API on its unix socket.

Implements ``edgeagent.api.runtime.ContainerRuntime`` and nothing more: one method is one operation of
Podman, as few round trips as it takes, no state between calls that a restart could lose. What a pod is,
when a container is restarted, which image policy holds: that is the core's, and may not come in here.
The package is written against ``edgeagent.api`` alone, as a third party's plugin is, and only
``edgeagent_podman.client`` imports the ``podman`` library.
"""
