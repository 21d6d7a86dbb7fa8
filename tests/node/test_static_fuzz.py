"""StaticPods on files of any bytes under any names: problems come of them, and nothing else."""

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.node.static import child
from edgeagent.node.static import texts as texts_module
from edgeagent.node.static.folder import StaticPods
from edgeagent.node.static.kept import KeptFiles
from tests.node.plugin_kit import VirtualClock

GOOD = (
    b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"good"},'
    b'"spec":{"hostNetwork":true,"containers":[{"name":"c","image":"x"}]}}'
)
WORDS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "spec",
        "items",
        "labels",
        "containers",
        "v1",
        "Pod",
        "List",
        "ConfigMap",
        "data",
        "binaryData",
        "Secret",
        "stringData",
        "\ud800",
        "a",
        "PodList",
        "image",
    ]
)
DATA = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
MUTATED = st.builds(
    lambda at, length, put: GOOD[:at] + put + GOOD[at + length :],
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
    st.sampled_from(
        [b"", b"\\ud800", b'["Pod"]', b"{}", b"1e999", b"9" * 5000, b"null", b"!!x", b"\xe9", b'"']
    ),
)
CONTENTS = st.binary(max_size=60) | MUTATED | DATA.map(lambda data: json.dumps(data).encode())
NAMES = st.builds(
    lambda name, suffix: name.translate(None, b"/\0") + suffix,
    st.binary(max_size=20),
    st.sampled_from([b".yaml", b".yml", b".json"]),
)


async def told(folder: Path, state: Path) -> StaticPods:
    """Static pods that have read ``folder`` once; what ends them is raised."""
    objects: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def warn(reason: str, message: str) -> None:
        message.encode()

    static = StaticPods(
        folder,
        node="n1",
        clock=VirtualClock(),
        kept=KeptFiles(state / "static.json", node="n1", folder=folder),
        on_objects=lambda _: objects.set_result(None),
        on_problems=lambda: None,
        warn=warn,
    )
    running = asyncio.create_task(static.run())
    await asyncio.wait([running, objects], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    running.cancel()
    await asyncio.wait([running])
    return static


def look(files: dict[bytes, bytes]) -> StaticPods:
    """What the node makes of these files, and a good one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "manifests")
        folder.mkdir()
        for file, content in {**files, b"~good.json": GOOD}.items():
            Path(os.fsdecode(os.fsencode(folder) + b"/" + file)).write_bytes(content)
        return asyncio.run(told(folder, Path(name)))


@pytest.fixture(scope="module", autouse=True)
def child_in_process() -> Iterator[None]:
    """The reader of YAML without its process, which takes longer to start than a hundred files to read."""

    async def run_child(request: bytes) -> bytes:
        return child.answer(request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts_module, "_run_child", run_child)
        yield


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(NAMES, CONTENTS, max_size=3))
def test_no_file_does_more_than_be_a_problem(files: dict[bytes, bytes]) -> None:
    static = look(files)
    assert "good-n1" in {one.metadata.name for one in static.objects.values()}
    for path, problem in static.problems.items():
        f"{path}: {problem}".encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (GOOD.replace(b'"Pod"', b'["Pod"]'), "kind: expected str"),
        (b"kind: [Pod]\napiVersion: v1", "kind: expected str"),
        (GOOD.replace(b'"spec"', rb'"\ud800":1,"spec"'), "half of a surrogate pair"),
        (GOOD.replace(b'"good"', rb'"\ud800"'), "half of a surrogate pair"),
        (rb'"\ud800": 1', "document 1"),
    ],
)
def test_what_is_odd_in_a_file_is_told(content: bytes, problem: str) -> None:
    (text,) = look({b"odd.yaml": content}).problems.values()
    assert problem in text


def test_a_name_that_is_no_text_is_told() -> None:
    static = look({b"\xe9.yaml": GOOD.replace(b"good", b"other")})
    ((path, text),) = static.problems.items()
    assert path.endswith(r"/\xe9.yaml")
    assert "the file's name is not UTF-8" in text


def test_a_time_that_no_calendar_has_is_no_problem() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        file = Path(name, "a.json")
        for seconds in (2**40, -(2**40)):
            file.write_bytes(GOOD)
            os.utime(file, (seconds, seconds))
            static = asyncio.run(told(Path(name), Path(name, "state")))
            assert not static.problems
            assert len(static.objects) == 1
