"""The agent's files: a mistake is named by file and place, and nothing is half taken over."""

import os
import stat
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.node.config import AgentConfig, load_config
from edgeagent.node.identity import IdentityDir, read_join_file
from edgeagent.node.privatefiles import write_private
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import BrokerAddress, JoinFile
from tests.node.indexes import ANCHOR, CLUSTER, NODE

JOIN = JoinFile(
    cluster=CLUSTER, node=NODE, brokers=[BrokerAddress(host="127.0.0.1")], ca="ca", certificate="certificate",
    private_key="key", trust=ANCHOR, sealing_key=bytes(32),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[agent\n", "line 1"),
        ("[agent]\nstate_dir = 7\n", "agent.state_dir: expected"),
        ("[agent]\nresync_seconds = 1\n", "agent.resync_seconds: expected"),
        ("[agent]\nresync_secs = 60\n", "agent.resync_secs: unknown field"),
        ("[agents]\n", "agents: unknown field"),
        ("[mqtt]\nbrokers = 'one'\n", "mqtt.brokers: expected"),
        ("[mqtt]\nbrokers = ['one', 2]\n", r"mqtt.brokers\[1\]: expected"),
        ("[mqtt]\nkeepalive_seconds = 1.5\n", "mqtt.keepalive_seconds: expected"),
        ("[mqtt]\nkeepalive_seconds = 4\n", "mqtt.keepalive_seconds: expected"),
        ("[mqtt]\ntls = 'no'\n", "mqtt.tls: expected"),
        ("[agent]\nreserve_size = '8 MB'\n", "agent.reserve_size: '8 MB' is not a quantity"),
        ("[agent]\nreserve_size = 8\n", "agent.reserve_size: expected"),
        ("[pods]\npids_limit = 0\n", "pods.pids_limit: must be"),
        ("[pods]\npids_limit = -2\n", "pods.pids_limit: expected"),
        ("[pods]\nmax_pods = -1\n", "pods.max_pods: expected"),
        ("[pods]\nstatic_pod_path = 'manifests'\n", "pods.static_pod_path: expected"),
        ("[pods]\nallowed_unsafe_sysctls = ['net/*']\n", r"pods.allowed_unsafe_sysctls\[0\]: expected"),
        ("[pods]\nallowed_unsafe_sysctls = ['net.*.x']\n", r"pods.allowed_unsafe_sysctls\[0\]: expected"),
        ("[images]\nhigh_threshold_percent = 101\n", "images.high_threshold_percent: expected"),
        ("[images]\nlow_threshold_percent = 90\n", "images.low_threshold_percent: is above"),
        ("[images]\nminimum_age = '2'\n", "images.minimum_age: '2' is not a duration"),
        ("[images]\nmaximum_age = '1m'\n", "images.maximum_age: must be longer"),
        ("[logs]\nmax_size = '1Ki'\n", "logs.max_size: must be"),
        ("[logs]\nmax_size = 'much'\n", "logs.max_size: 'much' is not"),
        ("[logs]\nmax_files = 1\n", "logs.max_files: expected"),
        ("[eviction]\nhard = {memory.available = '5%'}\n", r"eviction.hard\[\*\]: expected"),
        ("[eviction]\nhard = {'memory.free' = '5%'}\n", "eviction.hard: unknown signal 'memory.free'"),
        ("[eviction]\nhard = {'pid.available' = '-1'}\n", 'eviction.hard."pid.available": must not'),
        ("[eviction]\nhard = {'pid.available' = '200%'}\n", 'eviction.hard."pid.available": '),
        (
            "[eviction]\nsoft = {'pid.available' = '20%'}\n",
            'eviction.soft_grace_period."pid.available": there is no duration',
        ),
        (
            "[eviction]\nsoft_grace_period = {'pid.available' = '20s'}\n",
            'eviction.soft_grace_period."pid.available": there is no threshold',
        ),
        ("[eviction]\nminimum_reclaim = {'pid' = '1'}\n", "eviction.minimum_reclaim: unknown signal"),
        ("[eviction]\nmax_pod_grace_period = -1\n", "eviction.max_pod_grace_period: expected"),
        ("[eviction]\npressure_transition_period = 'x'\n", "eviction.pressure_transition_period: 'x'"),
        ("[remote]\nbandwidth = '15Ki'\n", "remote.bandwidth: is 15Ki, .* at least 16Ki.*max_streams to 0"),
        ("plugins = 1\n", "plugins: expected"),
        ("[plugins]\npodman = 1\n", r"plugins.*: expected"),
        ("a = " + "[" * 5000, "config.toml: "),
    ],
)
def test_a_mistake_is_named_by_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(PermanentError, match=place) as raised:
        load_config(path, required=False)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="does not exist"):
        load_config(tmp_path / "absent.toml", required=True)
    assert load_config(tmp_path / "absent.toml", required=False) == AgentConfig()
    with pytest.raises(PermanentError, match="cannot be read"):
        load_config(tmp_path, required=False)
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PermanentError, match="cannot be read"):
        load_config(tmp_path / "noise.toml", required=False)


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[agent]\nstate_dir = "/x"\n[plugins.podman]\nsocket = "s"\n')
    config = load_config(path, required=True)
    assert (config.state_dir, config.plugins) == (Path("/x"), {"podman": {"socket": "s"}})
    assert config.mqtt == AgentConfig().mqtt


def test_thresholds_as_a_file_gives_them(tmp_path: Path) -> None:
    """Signals that are not named keep their defaults, and 0% or 100% turns one off, as in kubelet."""
    path = tmp_path / "config.toml"
    path.write_text(
        "[eviction]\n"
        'hard = {"memory.available" = "50Mi", "imagefs.available" = "0%", "pid.available" = "100%"}\n'
        'soft = {"nodefs.available" = "15%"}\n'
        'soft_grace_period = {"nodefs.available" = "1m30s"}\n'
        'minimum_reclaim = {"nodefs.available" = "500Mi"}\n'
    )
    thresholds = load_config(path, required=True).eviction.thresholds()
    assert [
        (one.signal, one.amount.text, one.grace_seconds, one.minimum_reclaim.text) for one in thresholds
    ] == [
        ("memory.available", "50Mi", 0, "0"),
        ("nodefs.available", "10%", 0, "500Mi"),
        ("nodefs.inodesFree", "5%", 0, "0"),
        ("imagefs.inodesFree", "5%", 0, "0"),
        ("nodefs.available", "15%", 90, "500Mi"),
    ]
    assert [one.hard for one in thresholds] == [True] * 4 + [False]


def test_the_defaults() -> None:
    """https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/, where it has them."""
    config = AgentConfig()
    assert config.agent.reserve_bytes == 8 << 20
    assert (config.images.minimum_age_seconds, config.images.maximum_age_seconds) == (120, 0)
    assert (config.images.high_threshold_percent, config.images.low_threshold_percent) == (85, 80)
    assert (config.logs.max_bytes, config.logs.max_files) == (10 << 20, 5)
    assert (config.pods.max_pods, config.pods.pids_limit) == (110, -1)
    assert config.eviction.transition_seconds == 300


def test_a_join_file_becomes_an_identity_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "join.json"
    path.write_bytes(canonical_json(JOIN))
    folder = IdentityDir(tmp_path / "identity")
    assert not folder.exists()
    with pytest.raises(PermanentError, match="not enrolled") as raised:
        folder.load()
    assert raised.value.reason == "NotEnrolled"
    old = os.umask(0)
    try:
        folder.write(read_join_file(path))
    finally:
        os.umask(old)
    assert folder.exists()
    loaded = folder.load()
    assert (loaded.cluster, loaded.node, loaded.trust) == (CLUSTER, NODE, ANCHOR)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.path.iterdir()} == {0o600}
    assert folder.sealing_key.read_bytes() == bytes(32)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "no join file"),
        (b"{", "no join file"),
        (b"[]", "expected object"),
        (b"\xff", "no join file"),
        (b"[" * 100_000, "no join file"),
        (canonical_json(JOIN)[:-1] + b',"more":1}', "more: unknown field"),
        (canonical_json(JOIN).replace(b'"n1"', b"7"), "node: expected"),
        (canonical_json(JOIN).replace(b'"n1"', b'"N 1"'), "node:"),
        (canonical_json(JOIN).replace(b"127.0.0.1", b"a b"), r"brokers\[0\].host"),
        (canonical_json(JOIN).replace(b"AAAAAAAA", b"AAAA", 1), "sealingKey|no join file"),
    ],
)
def test_a_bad_join_file(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "join.json"
    path.write_bytes(content)
    with pytest.raises(PermanentError, match=place) as raised:
        read_join_file(path)
    assert str(path) in str(raised.value)


def test_a_join_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(PermanentError, match="cannot be read"):
            read_join_file(path)


def test_a_broken_identity_says_which_file(tmp_path: Path) -> None:
    folder = IdentityDir(tmp_path)
    folder.write(JOIN)
    (tmp_path / "identity.json").write_bytes(b'{"cluster":')
    with pytest.raises(PermanentError, match=r"identity\.json"):
        folder.load()


def test_enrolment_that_is_cut_short_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = IdentityDir(tmp_path / "identity")
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target.name == "sealing.key":
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="space"):
            folder.write(JOIN)
    assert not folder.exists()
    folder.write(JOIN)
    assert folder.load().node == NODE


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"old")
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_a_join_file_of_any_size_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "join"
    path.touch()
    os.truncate(path, 10**12)
    with pytest.raises(PermanentError, match="more than 1000000 bytes"):
        read_join_file(path)
