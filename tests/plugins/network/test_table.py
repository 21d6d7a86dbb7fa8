"""The table on real nftables: what is in force is what was asked for; small changes are small."""

import resource
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeagent.api.errors import TemporaryError
from edgeagent_network.base import BASE
from edgeagent_network.generation import generation_of, netlink_socket
from edgeagent_network.ruleset import TABLE, Chain, Fragment
from edgeagent_network.table import Table
from tests.support.netlab import Host, Lab


class Counted:
    """The host's runner, with what nft was given."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.scripts: list[str] = []
        self.listings = 0

    def __call__(self, argv: Sequence[str], stdin: str = "", *, check: bool = True) -> str:
        """Run it there."""
        if "list" in argv:
            self.listings += 1
        else:
            self.scripts.append(stdin)
        return self.host.run(argv, stdin, check=check)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def run(lab: Lab) -> Counted:
    return Counted(lab.host)


@pytest.fixture
def table(lab: Lab, run: Counted) -> Iterator[Table]:
    opened = lab.inside(lab.host.name, netlink_socket)
    made = Table(run, generation_of(opened))
    yield made
    lab.host.nft(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
    opened.close()


def service(number: int, backend: str = "10.42.0.5") -> Fragment:
    name = f"service-{number}"
    return Fragment(
        chains={name: Chain((f"meta l4proto tcp dnat ip to {backend}",))},
        counters=(f"hits-{number}",),
        elements={"service_ips4": {f"10.43.{number >> 8}.{number & 255} . tcp . 80": f"goto {name}"}},
    )


def listed(host: Host) -> list[dict[str, Any]]:
    """The table without what differs between two that mean the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(held) for key, held in value.items() if key != "handle"}
        if isinstance(value, list):
            return [plain(held) for held in value]
        return value

    found = [plain(item) for item in host.json("nft", "-j", "list", "table", "inet", TABLE)["nftables"][1:]]
    for item in found:
        for thing in item.values():
            if "elem" in thing:
                thing["elem"] = sorted(thing["elem"], key=str)
    rules = [item for item in found if "rule" in item]  # in the order of each chain
    others = sorted((item for item in found if "rule" not in item), key=str)
    return others + sorted(rules, key=lambda item: str(item["rule"]["chain"]))


def test_the_base_is_accepted_and_unchanged_input_costs_nothing(table: Table, run: Counted) -> None:
    ruleset = {"base": BASE, "service default/a": service(1)}
    assert table.apply(ruleset) == {}
    assert len(run.scripts) == 1
    assert table.apply(dict(ruleset)) == {}
    assert table.verify()
    assert (len(run.scripts), run.listings) == (1, 0)


def test_only_what_changed_is_written(table: Table, run: Counted) -> None:
    ruleset = {"base": BASE, **{f"service default/{n}": service(n) for n in range(20)}}
    table.apply(ruleset)
    ruleset["service default/7"] = service(7, "10.42.0.9")
    del ruleset["service default/8"]
    ruleset["service default/20"] = service(20)
    assert table.apply(ruleset) == {}
    script = run.scripts[-1]
    assert len(run.scripts) == 2
    assert "service-7 " in script
    assert "service-6" not in script
    assert "service-9" not in script
    assert table.verify()
    assert run.listings == 0


_chain_rules = st.lists(
    st.sampled_from(["accept", "drop", "ip saddr @s0 accept", "ip saddr @s1 drop", "ip saddr vmap @m0"]),
    max_size=3,
).map(tuple)

_HOOKS = [
    "type filter hook input priority 0; policy accept;",
    "type filter hook input priority 0; policy drop;",
    "type filter hook forward priority 0; policy accept;",
]


@st.composite
def rulesets(draw: st.DrawFn) -> dict[str, Fragment]:
    """Fragments that hold on to each other: rules to sets, elements to chains, sets made in several ways."""
    kinds = ["type ipv4_addr;", "type ipv4_addr; flags interval;"]
    base = Fragment(
        sets={name: draw(st.sampled_from(kinds)) for name in ("s0", "s1")},
        maps={"m0": "type ipv4_addr : verdict;"},
        chains={"in": Chain(draw(_chain_rules), draw(st.sampled_from(_HOOKS)))},
    )
    found = {"base": base}
    for name in draw(st.sets(st.sampled_from("abcd"))):
        octet = ord(name)
        last = draw(st.sets(st.integers(0, 3)))
        rules = draw(_chain_rules)
        found[f"service x/{name}"] = Fragment(
            chains={f"c-{name}": Chain(tuple(rule for rule in rules if "m0" not in rule))},
            counters=tuple(f"n-{name}-{i}" for i in range(draw(st.integers(0, 2)))),
            elements={
                "m0": {f"10.0.0.{octet}": draw(st.sampled_from([f"goto c-{name}", "drop"]))},
                draw(st.sampled_from(["s0", "s1"])): {f"10.1.{octet}.{i}": "" for i in last},
            },
        )
    return found


@given(steps=st.lists(rulesets(), min_size=2, max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_way_leads_to_the_same_table(
    lab: Lab, table: Table, run: Counted, steps: list[dict[str, Fragment]]
) -> None:
    for step in steps:
        before = len(run.scripts)
        assert table.apply(step) == {}
        assert len(run.scripts) <= before + 1, "a change failed, and all was made anew"
        assert table.verify()
    seen = listed(lab.host)
    opened = lab.inside(lab.host.name, netlink_socket)
    fresh = Table(lab.host.run, generation_of(opened))
    fresh.apply(steps[-1])
    opened.close()
    assert seen == listed(lab.host)
    table.apply(steps[-1])  # it is the fixture's again


@pytest.mark.parametrize(
    "harm",
    [
        "flush ruleset",
        f"flush table inet {TABLE}",
        f"delete element inet {TABLE} service_ips4 {{ 10.43.0.1 . tcp . 80 }}",
        f"add rule inet {TABLE} forward drop",
        f"flush chain inet {TABLE} service-1",
        f"add chain inet {TABLE} stranger",
    ],
)
def test_what_others_did_to_it_is_undone(lab: Lab, table: Table, harm: str) -> None:
    ruleset = {"base": BASE, "service default/a": service(1)}
    table.apply(ruleset)
    before = listed(lab.host)
    lab.host.nft(harm)
    assert not table.verify()
    assert table.apply(ruleset) == {}
    assert listed(lab.host) == before
    assert table.verify()


def test_what_others_do_elsewhere_is_not_ours(lab: Lab, table: Table, run: Counted) -> None:
    ruleset = {"base": BASE, "service default/a": service(1)}
    table.apply(ruleset)
    lab.host.nft("add table inet stranger\nadd set inet stranger s { type ipv4_addr; }\n")
    assert table.verify()
    assert table.verify()
    assert run.listings == 1
    table.apply({**ruleset, "service default/b": service(2)})
    assert len(run.scripts) == 2
    assert lab.host.json("nft", "-j", "list", "table", "inet", "stranger")
    lab.host.nft("delete table inet stranger")
    assert table.verify()


def test_a_fragment_that_is_refused_keeps_nothing_else_from_being(
    lab: Lab, table: Table, run: Counted
) -> None:
    bad = Fragment(chains={"service-9": Chain(("no such statement",))})
    good, other = service(1), service(2)
    refused = table.apply({"base": BASE, "service default/bad": bad, "service default/a": good})
    assert list(refused) == ["service default/bad"]
    assert "syntax error" in refused["service default/bad"]
    # A change beside it is still a small one.
    wanted = {"base": BASE, "service default/bad": bad, "service default/a": good, "service default/b": other}
    assert list(table.apply(wanted)) == ["service default/bad"]
    assert "service-1 " not in run.scripts[-1]
    assert table.apply({**wanted, "service default/bad": service(9)}) == {}
    assert "service-9" in str(listed(lab.host))


def test_a_fragment_that_becomes_bad_stays_as_it_was(lab: Lab, table: Table) -> None:
    ruleset = {"base": BASE, "service default/a": service(1), "service default/b": service(2)}
    table.apply(ruleset)
    before = listed(lab.host)
    bad = Fragment(chains={"service-1": Chain(("goto nowhere",))})
    assert list(table.apply({**ruleset, "service default/a": bad})) == ["service default/a"]
    assert listed(lab.host) == before
    assert table.apply(ruleset) == {}


def test_what_waits_for_another_fragment_is_accepted_with_it(table: Table) -> None:
    waits = Fragment(chains={"first": Chain(("goto second",))})
    assert list(table.apply({"base": BASE, "x waits": waits})) == ["x waits"]
    assert (
        table.apply({"base": BASE, "x waits": waits, "x there": Fragment(chains={"second": Chain()})}) == {}
    )


def test_a_base_that_is_refused_is_an_error_and_leaves_what_is_there(lab: Lab, table: Table) -> None:
    table.apply({"base": BASE})
    before = listed(lab.host)
    with pytest.raises(TemporaryError, match="syntax error"):
        table.apply({"base": Fragment(chains={"x": Chain(("no such statement",))})})
    assert listed(lab.host) == before


def test_what_packets_put_into_a_set_outlives_changes_beside_it(lab: Lab, table: Table) -> None:
    affinity = Fragment(sets={"affinity": "type ipv4_addr; flags dynamic,timeout; timeout 1h;"})
    ruleset = {"base": BASE, "service default/a": affinity}
    table.apply(ruleset)
    lab.host.nft(f"add element inet {TABLE} affinity {{ 10.9.9.9 }}")
    assert table.verify()
    assert table.apply({**ruleset, "service default/b": service(2)}) == {}
    assert "10.9.9.9" in lab.host.run(["nft", "list", "set", "inet", TABLE, "affinity"])


def test_a_changed_element_costs_the_same_with_5_000_services_of_ten_endpoints(
    lab: Lab, table: Table
) -> None:
    def spent(services: int) -> float:
        keys = [f"10.43.{n >> 8}.{n & 255} . tcp . 80" for n in range(services)]
        ends = {
            f"slot{slot}": {key: f"10.42.{slot}.{n & 255} . 8080" for n, key in enumerate(keys)}
            for slot in range(10)
        }
        declared = "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;"
        many = Fragment(
            maps=dict.fromkeys(ends, declared),
            elements={"service_ips4": dict.fromkeys(keys, "goto refuse"), **ends},
        )
        ruleset = {"base": BASE, "service default/many": many}
        table.apply(ruleset)
        times = []
        for number in range(10):
            before = _children_seconds()
            one = {"10.44.0.1 . tcp . 80": f"10.42.0.{number} . 8080"}
            table.apply({**ruleset, "service default/one": Fragment(elements={"slot3": one})})
            times.append(_children_seconds() - before)
        return min(times)

    few, many = spent(50), spent(5_000)
    # What is left of growth is the kernel's: it looks for loops through every verdict.
    assert many < few + 0.005, f"{few * 1000:.1f} ms of 50 services, {many * 1000:.1f} ms of 5,000"
    assert many < 0.02


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
