"""The one nftables table as data, in fragments: one for each object that brings something into it.

A fragment that did not change is the very same object as before, so that whoever applies a ruleset looks at
what changed alone. Names in statements are those of this table.
"""

from collections.abc import Mapping

import msgspec

TABLE = "edgeagent"
"""The name of the table, of family ``inet``. Nothing outside of it is ever touched."""


class Chain(msgspec.Struct, frozen=True):
    """``rules`` are nft statements, one each, in order. ``hook`` is empty, or what makes it a base chain:
    ``type filter hook forward priority filter; policy accept;``.
    """

    rules: tuple[str, ...] = ()
    hook: str = ""


class Fragment(msgspec.Struct, frozen=True):
    """What one object brings. ``sets`` and ``maps``: the declaration of each by name, such as
    ``type ipv4_addr; flags interval;``. ``counters``: names of stateful counters. ``elements``: by the name
    of a set or map (of this fragment or another), its keys with their values; a set's values are empty.
    A chain, set, map or counter belongs to one fragment; of two fragments that bring the same key into one
    set, the caller has decided before.
    """

    chains: Mapping[str, Chain] = msgspec.field(default_factory=dict)
    sets: Mapping[str, str] = msgspec.field(default_factory=dict)
    maps: Mapping[str, str] = msgspec.field(default_factory=dict)
    counters: tuple[str, ...] = ()
    elements: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=dict)


Ruleset = Mapping[str, Fragment]
"""Fragments by key: ``base``, ``service default/web``, ``policy default/deny``, ``pod <uid>``, …"""
