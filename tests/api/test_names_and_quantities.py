"""Names as Kubernetes has them, and quantities."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.clock import parse_rfc3339, rfc3339
from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.validate import validate_label, validate_name
from edgeagent.api.quantity import LARGEST, NANO, nano_quantity, parse_quantity


@pytest.mark.parametrize("name", ["a", "web-1", "0", "a.b-c.d", "a" * 253])
def test_good_names(name: str) -> None:
    validate_name(name, "x")


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", "a..b", ".a", "a.", "a_b", "a b", "a\n", "ä", "a/b", "a+", "#", "a" * 254]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidObjectError) as error:
        validate_name(name, "metadata.name")
    assert error.value.path == "metadata.name"
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("name", ["a.b", "a" * 64, "", "a-", "A"])
def test_bad_labels(name: str) -> None:
    with pytest.raises(InvalidObjectError, match=r"^here: "):
        validate_label(name, "here")


@given(name=st.text(max_size=80))
def test_a_good_label_is_one_topic_level_and_one_path_segment(name: str) -> None:
    try:
        validate_label(name, "x")
    except InvalidObjectError:
        return
    assert name.isascii()
    assert not set(name) & set("/+#$.\0")
    assert len(name) <= 63


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("64Mi", 64 * 2**20),
        ("1.5G", 1.5e9),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 1e18),
        ("2", 2),
        (".5", 0.5),
        ("5.", 5),
        ("+1Ki", 1024),
        ("100n", 1e-7),
        ("0", 0),
        (3, 3),
        (0.5, 0.5),
        (1e16, 1e16),
        ("1e-3", 0.001),
        ("1e+06", 1e6),
        ("1E006", 1e6),
        ("1.5E", 1.5e18),
        ("0.5Ki", 512),
        ("-0", 0),
        ("0e99999999999", 0),
    ],
)
def test_quantities(text: str | float, value: float) -> None:
    assert math.isclose(parse_quantity(text), value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 Gi",
        " 1",
        "1\n",
        "1gi",
        "1ki",
        "1K",
        "-1",
        "1e",
        "0x10",
        "1_000",
        "nan",
        "inf",
        "Mi",
        ".",
        "٣",
        "9" * 400,
        "1e5k",
        "1Ki2",
        "1mi",
        "+",
        float("nan"),
        float("inf"),
        True,
    ],
)
def test_what_is_no_quantity(text: str | float) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse_quantity(text)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "text", ["1e100", "99E99", "9e99", "10E", "1e999999999999999", 10**100, LARGEST, 1e300]
)
def test_what_is_larger_than_2_63_is_capped(text: str | float) -> None:
    assert nano_quantity(text) == LARGEST * NANO
    assert 2**63 - 2048 < int(parse_quantity(text)) <= LARGEST


@pytest.mark.parametrize("text", ["1n", "0.0000000001", "1e-100", "1e-999999999999999", "0.1n"])
def test_what_is_finer_than_a_billionth_is_rounded_up(text: str) -> None:
    assert nano_quantity(text) == 1


FACTORS = {
    "": "1",
    "m": "1e-3",
    "u": "1e-6",
    "k": "1e3",
    "M": "1e6",
    "G": "1e9",
    "Ki": "1024",
    "Mi": "1048576",
}


@given(
    number=st.decimals(0, 10**9, places=6),
    exponent=st.integers(-3, 6),
    suffix=st.sampled_from(sorted(FACTORS)),
)
def test_quantities_are_exact(number: Decimal, exponent: int, suffix: str) -> None:
    with_suffix = Fraction(number) * Fraction(FACTORS[suffix]) * NANO
    assert nano_quantity(f"{number:f}{suffix}") == min(math.ceil(with_suffix), LARGEST * NANO)
    with_exponent = Fraction(number) * Fraction(10) ** exponent * NANO
    assert nano_quantity(f"{number:f}e{exponent}") == min(math.ceil(with_exponent), LARGEST * NANO)


SUFFIXES = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "Ki": Fraction(1024),
    "Gi": Fraction(2**30),
}


@given(number=st.integers(0, 10**6), point=st.integers(0, 999), suffix=st.sampled_from(sorted(SUFFIXES)))
def test_a_quantity_is_its_number_times_its_suffix(number: int, point: int, suffix: str) -> None:
    exact = (number + Fraction(point, 1000)) * SUFFIXES[suffix]
    assert math.isclose(parse_quantity(f"{number}.{point:03}{suffix}"), float(exact), rel_tol=1e-12)


@given(text=st.text(max_size=12))
def test_any_text_is_a_finite_amount_or_refused(text: str) -> None:
    try:
        value = parse_quantity(text)
    except ValueError:
        return
    assert math.isfinite(value)
    assert value >= 0


@given(seconds=st.integers(0, 4_000_000_000))
def test_times_survive_being_written(seconds: int) -> None:
    assert parse_rfc3339(rfc3339(seconds)) == seconds
