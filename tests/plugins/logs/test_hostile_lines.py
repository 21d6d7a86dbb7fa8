"""Lines that are written to cost as much as they can: the time for one grows with its length, no faster."""

import time
from collections.abc import Iterator

import pytest

from edgeagent_logs.patterns import BUILT_IN, redaction
from edgeagent_logs.traces import TraceRules

LINE_BYTES = 65_536
"""``max_line_bytes`` by default."""
SECONDS = 1.0
"""Of CPU: some hundred times what such a line needs, and a fraction of what it took by trying all ways."""
UNITS = (
    "(", "()", "a(", ".", " ", "\t", "a", "a.", "a@", "a@a.", "a-", "_", "+", "1", "1111-", "1 ", "eyJ",
    "eyJaaaaaaa-", "eyJaaaaaaaaa.", "bearer ", "bearer a", "password=", "token:", "Error", "Exception:",
    " at ", "---> ", "Caused by:",
)  # fmt: skip
ENDS = ("", "x", ")", ")" * 1000 + "x", ":", ".")


def line(unit: str, end: str) -> str:
    return (unit * LINE_BYTES)[: LINE_BYTES - len(end)] + end


def halves(first: str, second: str) -> str:
    return first * (LINE_BYTES // 2) + second * (LINE_BYTES // 2 - 1) + "x"


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    began = time.thread_time()
    yield
    assert time.thread_time() - began < SECONDS * len(ENDS)


@pytest.mark.parametrize("unit", UNITS)
def test_a_line_that_may_belong_to_a_trace(unit: str) -> None:
    rules = TraceRules(["python", "java", "go", "dotnet", "node"])
    for end in ENDS:
        text = line(unit, end).encode()
        rules.begin(text)
        for state in ("python", "python-raised", "go", "frames"):
            rules.step(state, text)


@pytest.mark.parametrize(("first", "second"), [("(", ")"), ("a", ")"), (" ", ".")])
def test_a_line_that_is_half_the_one_and_half_the_other(first: str, second: str) -> None:
    rules = TraceRules(["go"])
    assert rules.step("go", halves(first, second).encode()) == ("go" if first == " " else None)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("unit", UNITS)
def test_a_line_that_may_have_a_secret_in_it(name: str, unit: str) -> None:
    pattern = redaction(name)
    for end in ENDS:
        pattern.sub("[redacted]", line(unit, end))


def test_frames_of_go_are_known_as_before() -> None:
    step = TraceRules(["go"]).step
    frames = (
        "main.main()", "main.(*Server).serve(0xc000, {0x1, 0x2})", "(main.T).f()",
        "net/http.(*conn).serve(...)", "main.f[...]()", "main.f·1(0x1)",
    )  # fmt: skip
    for frame in frames:
        assert step("go", frame.encode()) == "go", frame
    for other in ("main.main", "(main)", "main.main() x", "a b()", "()"):
        assert step("go", other.encode()) is None, other


@pytest.mark.parametrize("before", ["", " ", "=", '"', "id-", "a_b-c-"])
def test_a_token_is_found_after_anything_but_letters(before: str) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    assert "eyJ" not in redaction("bearer-token").sub("", f"{before}{token} and {before}{token}")
