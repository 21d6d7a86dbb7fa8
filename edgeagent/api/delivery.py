"""Delivery: what became of a batch that a sink or an exporter was given."""

import msgspec


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever is not named here has arrived. Items are named by their place in the batch, from 0.

    ``retry`` are those that may be taken later, after ``delay`` seconds or at the core's own pace.
    ``rejected`` are those that the other side will never take, with why: they are dropped and counted. A
    batch none of which could be sent is a TemporaryError instead; what a person must mend first (a refused
    password) is a PermanentError: the batch is kept, and tried again slowly.
    """

    retry: list[int] = []
    rejected: dict[int, str] = {}
    delay: float = 0.0
