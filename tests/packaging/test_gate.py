"""The gate gives one verdict for one commit: properties are tried alike, real parts get a second chance."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
STORAGE = str(TESTS.parent / ".hypothesis")
"""What hypothesis knows already of the code's constants."""

FLAKY = """
import os
from pathlib import Path
from hypothesis import given, strategies as st
{imports}

def fail_once(name):
    mark = Path(os.environ["MARKS"]) / name
    if not mark.exists():
        mark.touch()
        raise AssertionError("starved")

def test_plain_{name}():
    fail_once("plain_{name}")

@given(st.integers())
def test_property_{name}(number):
    fail_once("property_{name}")
"""

ALWAYS_BAD = """
from tests.support.lone import LoneAgent

def test_bad():
    assert not LoneAgent
"""

DRAWING = """
import os
from hypothesis import given, strategies as st

@given(st.text(), st.integers())
def test_draw(text, number):
    with open(os.environ["MARKS"] + "/drawn", "a") as out:
        print(repr(text), number, file=out)
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with the settings, conftest and helpers of these tests, and none of the tests."""
    made = tmp_path / "suite"
    (made / "tests").mkdir(parents=True)
    (made / "tests" / "support").symlink_to(TESTS / "support")
    shutil.copy(TESTS / "conftest.py", made / "tests")
    shutil.copy(TESTS / "__init__.py", made / "tests")
    shutil.copy(TESTS.parent / "pyproject.toml", made)
    (made / "marks").mkdir()
    return made


def write(suite: Path, name: str, text: str) -> None:
    path = suite / "tests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(suite: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTEST_", "HYPOTHESIS_", "EDGEAGENT_RERUNS")) and key != "CI"
    }
    argv = [sys.executable, "-m", "pytest", "-rfER", "--tb=short", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        argv,
        cwd=suite,
        env={**inherited, "MARKS": str(suite / "marks"), "HYPOTHESIS_STORAGE_DIRECTORY": STORAGE, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_only_tests_on_real_parts_run_again_and_each_is_named(suite: Path) -> None:
    for folder, imports, name in (
        ("e2e", "from tests.support.podman import PodmanService", "real"),
        ("plugins", "", "unit"),
        ("node", "from tests.support.podman import PodmanService", "node"),
    ):
        write(suite, f"{folder}/test_{name}.py", FLAKY.format(imports=imports, name=name))
    write(suite, "e2e/test_bad.py", ALWAYS_BAD)
    file = suite / "reruns"
    first = run(suite, "-n", "2", EDGEAGENT_RERUNS=str(file))
    again = {
        "tests/e2e/test_bad.py::test_bad",
        "tests/e2e/test_real.py::test_plain_real",
        "tests/node/test_node.py::test_plain_node",
    }
    assert set(file.read_text().split()) == again, first.stdout
    assert all(f"RERUN {name}" in first.stdout for name in again)
    assert "FAILED tests/e2e/test_bad.py::test_bad" in first.stdout
    assert "5 failed, 2 passed, 3 rerun" in first.stdout
    assert first.returncode == pytest.ExitCode.TESTS_FAILED
    shutil.rmtree(suite / "marks")
    (suite / "marks").mkdir()
    assert "7 failed" in run(suite).stdout, "by hand"


def test_the_examples_of_properties_are_the_same_whatever_was_imported_before(suite: Path) -> None:
    write(suite, "node/test_draw.py", DRAWING)
    drawn = []
    for before in ("", "import edgeagent.cluster.api, edgeagent.node.agent\n\ndef test_it(): pass\n"):
        write(suite, "node/test_before.py", before)
        done = run(suite, "tests/node", HYPOTHESIS_PROFILE="ci")
        assert done.returncode == 0, done.stdout
        drawn.append((suite / "marks" / "drawn").read_text())
        (suite / "marks" / "drawn").unlink()
    assert drawn[0] == drawn[1]
    assert run(suite, "tests/node").returncode == 0
    assert (suite / "marks" / "drawn").read_text() != drawn[0], "by hand it is by chance"
