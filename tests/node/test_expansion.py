"""``$(VAR)``: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/"""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.node.pods.expansion import MAX_EXPANDED, expand, expand_strict

VARIABLES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": "", "": "nameless"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)$(VAR_B)-$(VAR_C)", "AB-C"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("x$(VAR_EMPTY)x", "xx"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$$$$$(VAR_A)", "$$A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(MISSING)$(VAR_A)", "$(MISSING)A"),
        ("$(VAR_A", "$(VAR_A"),
        ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$VAR_A", "$VAR_A"),
        ("${VAR_A}", "${VAR_A}"),
        ("${$(VAR_A)}", "${A}"),
        ("$(VAR_A)$", "A$"),
        ("$", "$"),
        ("$$", "$"),
        ("$$$", "$$"),
        ("$()", "nameless"),
        ("$($(VAR_A))", "$($(VAR_A))"),
        ("$(VAR_A)$(", "A$("),
        ("$(a\nb) $(VAR_A)", "$(a\nb) A"),
        ("$\\(VAR_A)", "$\\(VAR_A)"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, VARIABLES) == expanded


def by_the_letter(text: str, variables: Mapping[str, str]) -> str:
    """The rules read one character after the other."""
    out, at = "", 0
    while at < len(text):
        if text.startswith("$$", at):
            out, at = out + "$", at + 2
        elif text.startswith("$(", at) and (end := text.find(")", at)) >= 0:
            name = text[at + 2 : end]
            out, at = out + variables.get(name, f"$({name})"), end + 1
        else:
            out, at = out + text[at], at + 1
    return out


@given(
    text=st.text(alphabet="$()AB x", max_size=40),
    variables=st.dictionaries(st.sampled_from(["A", "B", "AB", ""]), st.text(alphabet="$()A", max_size=5)),
)
def test_expansion_by_the_letter(text: str, variables: dict[str, str]) -> None:
    assert expand(text, variables) == by_the_letter(text, variables)


@given(text=st.text(max_size=60))
def test_what_is_escaped_comes_out_as_it_was(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"a": "b"}) == text
    assert expand_strict(text.replace("$", "$$"), {}) == text


class Asked(dict[str, str]):
    """Variables that note whether one was asked for that is not there."""

    missing = False

    def get(self, key: str, default: Any = None) -> Any:
        """The variable, or None."""
        self.missing |= key not in self
        return super().get(key, default)


@given(text=st.text(alphabet="$()AB", max_size=30))
def test_strict_is_the_same_where_nothing_is_missing(text: str) -> None:
    variables = {"A": "1", "B": ""}
    asked = Asked(variables)
    expanded = expand(text, asked)
    if asked.missing:
        with pytest.raises(PermanentError, match="missing value"):
            expand_strict(text, variables)
    else:
        assert expand_strict(text, variables) == expanded


def test_strict_names_what_is_missing() -> None:
    with pytest.raises(PermanentError, match="missing value for 'POD_NAME'"):
        expand_strict("logs/$(POD_NAME)", {"A": "b"})
    assert expand_strict("logs/$$(POD_NAME)", {}) == "logs/$(POD_NAME)"


def test_an_expansion_is_bounded() -> None:
    half = "x" * (MAX_EXPANDED // 2)
    assert len(expand("$(A)$(A)", {"A": half})) == MAX_EXPANDED
    with pytest.raises(PermanentError, match="more than 131072"):
        expand("$(A)$(A)$(A)", {"A": half})


def test_many_openings_without_an_end() -> None:
    text = "$(" * 500_000
    assert expand(text, {}) == text
    assert expand(text + ")", {}) == text + ")"
