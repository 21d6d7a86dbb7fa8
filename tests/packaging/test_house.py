"""The house as it is packaged: plugin folders, entry points and the wheel name the same set."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import edgeagent


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel: the one under test, or one built now."""
    if given := os.environ.get("EDGEAGENT_WHEEL"):
        return Path(given)
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(target),
            str(checkout),
        ],
        check=True,
        timeout=300,
    )
    (built,) = target.glob("*.whl")
    return built


def plugin_folders(checkout: Path) -> set[str]:
    return {path.name for path in (checkout / "plugins").iterdir() if (path / "__init__.py").exists()}


def test_folders_entry_points_and_wheel_name_the_same_plugins(checkout: Path, wheel: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    declared = project["project"]["entry-points"]["edgeagent"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    in_wheel = {name.partition("/")[0] for name in names if name.startswith("edgeagent_")}
    folders = plugin_folders(checkout)
    assert {value.partition(".")[0] for value in declared.values()} == folders
    assert {f"edgeagent_{name}" for name in declared} == folders
    assert {name for name in in_wheel if not name.endswith(".dist-info")} == folders
    installed = importlib.metadata.entry_points(group="edgeagent")
    mine = {point.name: point.value for point in installed if point.dist and point.dist.name == "edgeagent"}
    assert mine == declared


def test_every_plugin_has_the_same_shape(checkout: Path) -> None:
    for name in plugin_folders(checkout):
        files = {path.name for path in (checkout / "plugins" / name).iterdir()}
        assert {"__init__.py", "plugin.py", "config.py", "README.md", "sample.toml", "py.typed"} <= files, (
            name
        )


def test_every_sample_is_accepted_as_it_stands(checkout: Path) -> None:
    for name in plugin_folders(checkout):
        text = (checkout / "plugins" / name / "sample.toml").read_text()
        tomllib.loads(text)
        # Uncommented, every line must still be a config that the plugin takes.
        lines = [line.removeprefix("# ").removeprefix("#") for line in text.splitlines()]
        tomllib.loads("\n".join(line for line in lines if "=" in line or line.startswith("[")))


def test_every_package_says_what_may_not_be_in_it(checkout: Path) -> None:
    for path in [*checkout.glob("edgeagent/**/__init__.py"), *checkout.glob("plugins/*/__init__.py")]:
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        words = docstring.lower()
        assert any(
            word in words for word in ("may not", "nothing else", "never", "holds no", "may import")
        ), path


def test_no_module_is_longer_than_five_hundred_lines(checkout: Path) -> None:
    long = {
        str(path.relative_to(checkout)): count
        for folder in ("edgeagent", "plugins", "benchmarks", "tests", "examples")
        for path in (checkout / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 500
    }
    assert long == {}


@pytest.mark.parametrize("document", ["docs/properties.md", "SECURITY.md"])
def test_every_test_that_a_document_names_exists(checkout: Path, document: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (checkout / document).read_text())
    assert len(named) > 10
    for path, name in named:
        text = (checkout / path).read_text()
        assert not name or re.search(rf"(?m)^(def {name}\(|{name} = )", text), f"{path}::{name}"


def test_importing_the_package_costs_nothing() -> None:
    code = "import sys, edgeagent; print(sorted(m for m in sys.modules if m.startswith('edgeagent')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "['edgeagent']"


def test_the_version_is_the_distributions() -> None:
    assert importlib.metadata.version("edgeagent") == edgeagent.__version__


@pytest.mark.parametrize("program", ["edgeagent", "edgectl", "edgehub"])
def test_help_imports_nothing_heavy(program: str) -> None:
    code = (
        "import sys\n"
        f"from edgeagent.cli.{program} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'yaml', 'paho', 'cryptography', 'podman', 'sqlite3', 'asyncio'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.endswith("HEAVY []\n"), done.stdout[-200:]
    assert "examples:" in done.stdout.lower()


def test_what_an_agent_imports_before_it_has_work() -> None:
    code = (
        "import sys, edgeagent.cli.runner\n"
        "heavy = {'yaml', 'paho', 'cryptography', 'podman', 'requests', 'http.server'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
