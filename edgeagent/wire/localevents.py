"""The stream ``events``, at the node's unix socket alone: what happens on the node, as it happens.

The node opens a channel ``events`` and writes Events as JSON, a line each: those that it remembers, the one
that happened longest ago first, then each that is new or happened again. It goes on until it is ended.
"""

from edgeagent.wire.streamapi import StreamParams

EVENTS = "events"


class EventsParams(StreamParams, frozen=True, omit_defaults=False):
    """Of which namespace; empty for all. ``pod`` stays empty."""

    pod: str = ""
