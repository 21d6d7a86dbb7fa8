"""Every input that is kept, through its target: the good ones, and those that once found something."""

import time
import tracemalloc

import pytest

from tests.fuzz.modules import MODULES
from tests.fuzz.targets import CORPUS, TARGETS

SECONDS = 2.0
MEMORY_BYTES = 64_000_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_of(name: str) -> None:
    """Nothing but the declared errors comes out, soon, and with little memory."""
    files = sorted((CORPUS / name).iterdir())
    assert files, f"no corpus: python -m tests.fuzz {name} --seed"
    target = TARGETS[name]
    target.run(b"")  # and whatever is imported or opened, is
    tracemalloc.start()
    try:
        for file in files:
            began = time.process_time()
            target.run(file.read_bytes())
            assert time.process_time() - began < SECONDS, file.name
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def test_there_is_no_corpus_without_a_target() -> None:
    assert set(MODULES) == set(TARGETS)
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_good_inputs_are_in_the_corpus(name: str) -> None:
    kept = {file.read_bytes() for file in (CORPUS / name).iterdir()}
    assert kept.issuperset(TARGETS[name].seeds())
