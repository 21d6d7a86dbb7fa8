"""Pods' addresses: none twice, the oldest freed one last, whatever happens to the file."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent_network.addresses import Addresses, node_address, parse_range, pod_offsets

SMALL = ["10.42.0.0/28", "fd42::/124"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "addresses.json"


def used(file: Path, cidrs: list[str] = SMALL) -> Addresses:
    made = Addresses(file)
    made.use(cidrs)
    return made


def test_a_pod_has_one_address_of_each_range_and_keeps_it(file: Path) -> None:
    addresses = used(file)
    assert addresses.allocate("a") == ["10.42.0.2", "fd42::2"]
    assert addresses.allocate("b") == ["10.42.0.3", "fd42::3"]
    again = Addresses(file)
    assert again.cidrs == SMALL
    assert again.allocate("a") == ["10.42.0.2", "fd42::2"]
    assert node_address(parse_range(SMALL[0])) == "10.42.0.1"


def test_a_freed_address_is_given_out_as_late_as_possible(file: Path) -> None:
    addresses = used(file, ["10.42.0.0/29"])
    first = [addresses.allocate(uid)[0] for uid in "abc"]
    addresses.free("b")
    addresses.free("a")
    addresses = Addresses(file)
    rest = [addresses.allocate(uid)[0] for uid in "defg"]
    assert (first, rest) == (
        ["10.42.0.2", "10.42.0.3", "10.42.0.4"],
        ["10.42.0.5", "10.42.0.6", "10.42.0.3", "10.42.0.2"],
    )


def test_a_full_range_is_named(file: Path) -> None:
    addresses = used(file, ["fd42::/64", "10.42.0.0/30"])
    addresses.allocate("a")
    with pytest.raises(TemporaryError, match=r"10\.42\.0\.0/30 has no address left: 1 for pods") as caught:
        addresses.allocate("b")
    assert caught.value.reason == "AddressesExhausted"
    addresses.free("a")
    assert addresses.allocate("b") == ["fd42::3", "10.42.0.2"]


@pytest.mark.parametrize("cidr", ["10.0.0.0/32", "10.0.0.0/31", "fd00::/128", "fd00::/127"])
def test_a_range_with_no_room_for_pods_is_full(file: Path, cidr: str) -> None:
    with pytest.raises(TemporaryError, match="has no address left: 0 for pods"):
        used(file, [cidr]).allocate("a")


@pytest.mark.parametrize("cidr", ["10.0.0.1/24", "nonsense", "10.0.0.0/33", "", "1" * 1000])
def test_what_is_no_range_changes_nothing(file: Path, cidr: str) -> None:
    addresses = used(file)
    with pytest.raises(PermanentError, match="pod range") as caught:
        addresses.use([cidr])
    assert caught.value.reason == "InvalidPodCIDR"
    assert addresses.cidrs == SMALL
    with pytest.raises(PermanentError, match="one of each family"):
        addresses.use(["10.0.0.0/24", "10.1.0.0/24"])


def test_pods_keep_their_addresses_when_the_range_becomes_another(file: Path) -> None:
    addresses = used(file, ["10.42.0.0/24"])
    addresses.allocate("a")
    assert addresses.use(["10.50.0.0/24"]) == []
    assert addresses.allocate("a") == ["10.42.0.2"]
    assert addresses.allocate("b") == ["10.50.0.2"]
    addresses.free("a")
    assert addresses.use(["10.50.0.0/24"]) == ["10.42.0.1"]
    assert addresses.use(["10.50.0.0/24"]) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"pods": {"a": ["10.42.0.2"], "b": ["10.42.0.2"]}}',
        b'{"pods": {"a": ["x"]}}',
        b'{"cidrs": ["10.0.0.0/24"]}',
        b'{"ranges": {"10.0.0.0/30": {"freed": [999]}}}',
        b"\xff" * 100,
        pytest.param(b'{"x":' + b"[" * 100_000, id="deep"),
    ],
)
def test_a_file_that_is_not_ours_is_set_aside(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    addresses = Addresses(file)
    assert addresses.set_aside is not None
    assert addresses.set_aside.read_bytes() == content
    addresses.use(SMALL)
    addresses.adopt("a", ["10.42.0.3", "fd42::3"])
    addresses.adopt("b", ["10.42.0.3"])  # of two that say so, the first
    assert [addresses.allocate(uid)[0] for uid in "abc"] == ["10.42.0.3", "10.42.0.2", "10.42.0.4"]
    assert Addresses(file).set_aside is None


def test_a_folder_that_cannot_be_written_gives_no_address(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    addresses = used(folder / "addresses.json")
    (folder / ".addresses.json.partial").mkdir()
    with pytest.raises(TemporaryError, match="cannot be written"):
        addresses.allocate("a")
    (folder / ".addresses.json.partial").rmdir()
    assert addresses.allocate("b") == ["10.42.0.2", "fd42::2"] or addresses.pods.keys() == {"b"}


class Churn(RuleBasedStateMachine):
    """Pods come and go, ranges change, the process restarts: no address twice, none that is not a pod's."""

    uids = Bundle("uids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir="/dev/shm")  # each step is synced to the disk
        self.file = Path(self.folder.name) / "addresses.json"
        self.addresses = used(self.file)
        self.live: dict[str, list[str]] = {}
        self.number = 0

    @rule(target=uids)
    def attach(self) -> str:
        """A pod comes; it has an address unless a range is full."""
        self.number += 1
        uid = f"pod{self.number}"
        try:
            self.live[uid] = self.addresses.allocate(uid)
        except TemporaryError:
            for cidr in self.addresses.cidrs:
                first, last = pod_offsets(within := parse_range(cidr))
                held = {ip for ips in self.live.values() for ip in ips}
                if held >= {str(within[offset]) for offset in range(first, last + 1)}:
                    return uid
            raise AssertionError("no address though there is room") from None
        return uid

    @rule(uid=consumes(uids))
    def detach(self, uid: str) -> None:
        """A pod goes."""
        self.addresses.free(uid)
        self.live.pop(uid, None)

    @rule()
    def restart(self) -> None:
        """The process ends and another begins."""
        self.addresses = Addresses(self.file)

    @rule(cidrs=st.sampled_from([SMALL, SMALL[:1], ["10.42.0.0/29"], ["10.42.0.8/29", "fd42::/125"]]))
    def other_ranges(self, cidrs: list[str]) -> None:
        """The hub gives the node other ranges."""
        self.addresses.use(cidrs)

    @invariant()
    def all_differ(self) -> None:
        """What is held is what was given."""
        ips = [ip for held in self.live.values() for ip in held]
        assert len(set(ips)) == len(ips)
        assert dict(self.addresses.pods) == self.live
        assert self.addresses.set_aside is None

    def teardown(self) -> None:
        """Remove the file."""
        self.folder.cleanup()


TestChurn = Churn.TestCase
TestChurn.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
