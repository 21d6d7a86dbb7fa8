"""Telemetry on its way: from log sources and collectors, through the spool on disk, to sinks and exporters.

May not know of Kubernetes objects, of MQTT topics, or of what a plugin does: it is handed what it works
with by ``edgeagent.node.telemetrywiring``.
"""
