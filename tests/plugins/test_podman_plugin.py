"""What the plugin says of itself, its configuration, and that importing it is cheap."""

import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

import edgeagent_podman
from edgeagent.api.plugin import API_VERSION, PluginContext
from edgeagent_podman import plugin
from edgeagent_podman.config import PodmanConfig
from edgeagent_podman.runtime import PodmanRuntime


def test_the_plugin_runs_in_a_process_of_its_own() -> None:
    info = plugin.edgeagent_plugin_info()
    assert (info.name, info.api_version) == ("podman", API_VERSION)
    assert (info.lane.isolation, info.lane.workers, info.lane.idle_seconds) == ("process", 16, 30)


def test_the_hook_gives_a_runtime_without_connecting(tmp_path: Path) -> None:
    config = PodmanConfig(socket=str(tmp_path / "absent.sock"))
    context = PluginContext(
        node_name="n", cluster="c", state_dir=tmp_path, run_dir=tmp_path, identity_dir=tmp_path, config=config
    )
    assert isinstance(plugin.edgeagent_container_runtime(context), PodmanRuntime)


def test_the_sample_is_the_default() -> None:
    text = files(edgeagent_podman).joinpath("sample.toml").read_text()
    section = tomllib.loads(text)["plugins"]["podman"]
    assert msgspec.convert(section, plugin.edgeagent_config_schema()) == PodmanConfig()
    assert set(section) == set(PodmanConfig.__struct_fields__)


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ({"sockett": "/x"}, "sockett"),
        ({"socket": "relative"}, "$.socket"),
        ({"request_timeout": 0}, "$.request_timeout"),
        ({"log_size_bytes": 1}, "$.log_size_bytes"),
        ({"insecure_registries": [1]}, "$.insecure_registries[0]"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(section: dict[str, object], place: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(section, PodmanConfig)
    assert place in str(caught.value)


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_plugin_imports_neither_podman_py_nor_requests() -> None:
    heavy = "{'podman', 'requests', 'urllib3', 'http', 'asyncio'}"
    assert _run(f"import edgeagent_podman.plugin; print({heavy} & set(sys.modules))") == "set()"


def test_the_client_leaves_out_what_it_does_not_use_of_podman_py() -> None:
    assert _run("import edgeagent_podman.client; print('podman.domain' in sys.modules)") == "False"


def test_podman_py_is_whole_for_whoever_else_wants_it() -> None:
    code = "from podman import PodmanClient as P, __version__ as v; print(P.__name__, v > '5')"
    assert _run(f"import edgeagent_podman.client; {code}") == "PodmanClient True"
    assert _run(f"{code}; import edgeagent_podman.client") == "PodmanClient True"
