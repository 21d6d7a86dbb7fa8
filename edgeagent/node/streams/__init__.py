"""Streams: what goes on between an operator, or a technician, and this node for a while: logs, commands,
ports.

A service here works with channels (``edgeagent.wire.channelio``) alone. May not know of MQTT or of the unix
socket that carries them, save ``operatorstreams``; nor judge who may do what: ``edgeagent.node.operations``
has done so.
"""
