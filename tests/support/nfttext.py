"""A whole ruleset as one script of nft(8): what the incremental way of applying it is held against."""

from edgeagent_network.ruleset import TABLE, Ruleset


def script(ruleset: Ruleset) -> str:
    """Replaces the table, whatever it was before, in one transaction."""
    declared: list[str] = []
    filled: list[str] = []
    elements: dict[str, list[str]] = {}
    for fragment in ruleset.values():
        declared += [f"counter {name} {{ }}" for name in fragment.counters]
        declared += [f"set {name} {{ {text} }}" for name, text in fragment.sets.items()]
        declared += [f"map {name} {{ {text} }}" for name, text in fragment.maps.items()]
        for name, chain in fragment.chains.items():
            declared.append(f"chain {name} {{ {chain.hook} }}")
            if chain.rules:
                filled.append(f"chain {name} {{\n" + "\n".join(chain.rules) + "\n}")
        for name, members in fragment.elements.items():
            elements.setdefault(name, []).extend(
                f"{key} : {value}" if value else key for key, value in members.items()
            )
    lines = [
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *declared,
        "}",
        f"table inet {TABLE} {{",
        *filled,
        "}",
        *(
            f"add element inet {TABLE} {name} {{ {', '.join(members)} }}"
            for name, members in elements.items()
            if members
        ),
    ]
    return "\n".join(lines) + "\n"
