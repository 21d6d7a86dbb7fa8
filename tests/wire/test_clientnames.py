"""Who is let in by the names in a certificate."""

import pytest

from edgeagent.wire.clientnames import is_allowed, names_of


def test_names_of_a_certificate() -> None:
    found = names_of(
        {
            "subject": ((("organizationName", "x"),), (("commonName", "a"),)),
            "subjectAltName": (("DNS", "b"), ("URI", "c"), ("IP Address", "127.0.0.1")),
        }
    )
    assert found == ["a", "b", "c"]
    assert names_of({}) == []


@pytest.mark.parametrize(
    ("name", "allowed", "let_in"),
    [
        ("user:ada", ["user:*"], True),
        ("user", ["user:*"], False),
        ("a-user:ada", ["user:*"], False),
        ("prometheus", ["user:*", "prometheus"], True),
        ("prometheus-2", ["prometheus"], False),
    ],
)
def test_a_name_is_allowed_whole_or_by_its_beginning(name: str, allowed: list[str], let_in: bool) -> None:
    assert is_allowed({"subject": ((("commonName", name),),)}, allowed) is let_in
    assert is_allowed({"subjectAltName": (("DNS", name),)}, allowed) is let_in
    assert not is_allowed({}, allowed)
