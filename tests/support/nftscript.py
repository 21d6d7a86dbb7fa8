"""A ruleset as one script of nft(8) that replaces the whole table: the plain way, to compare others with."""

from edgeagent_network.ruleset import TABLE, Ruleset


def whole_table(ruleset: Ruleset) -> str:
    """The script. Loading it leaves nothing of the table that was there before, but conntrack's entries."""
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
    fragments = ruleset.values()
    for fragment in fragments:
        lines += [f"add counter inet {TABLE} {name}" for name in fragment.counters]
        lines += [f"add set inet {TABLE} {name} {{ {text} }}" for name, text in fragment.sets.items()]
        lines += [f"add map inet {TABLE} {name} {{ {text} }}" for name, text in fragment.maps.items()]
        for name, chain in fragment.chains.items():
            lines.append(
                f"add chain inet {TABLE} {name} {{ {chain.hook} }}"
                if chain.hook
                else f"add chain inet {TABLE} {name}"
            )
    elements: dict[str, list[str]] = {}
    for fragment in fragments:
        for name, chain in fragment.chains.items():
            lines += [f"add rule inet {TABLE} {name} {rule}" for rule in chain.rules]
        for collection, added in fragment.elements.items():
            elements.setdefault(collection, []).extend(
                f"{key} : {value}" if value else key for key, value in added.items()
            )
    lines += [
        f"add element inet {TABLE} {collection} {{ {', '.join(added)} }}"
        for collection, added in elements.items()
    ]
    return "\n".join(lines) + "\n"
