"""``docs/pod-support.md`` says what the code does, and the code knows every field that Kubernetes has."""

import json
from collections import Counter
from pathlib import Path

import pytest

from edgeagent.api.objects.support import fields_of
from tests.support.podtable import claims, covers, parse, rows, rows_of_code, structs, table_path, uncovered

MERGED = {
    "KeySelector": ("ConfigMapKeySelector", "SecretKeySelector"),
    "SourceReference": ("ConfigMapEnvSource", "SecretEnvSource"),
}
"""Structs that stand for two of Kubernetes', which differ in name alone."""

FIELDS = json.loads((Path(__file__).parents[1] / "data" / "kubernetes-fields.json").read_text())
KUBERNETES: dict[str, list[str]] = FIELDS["structs"]
"""The fields of each struct, from the models of Kubernetes' own client."""


def test_the_table_has_exactly_the_fields_of_the_code_as_the_code_has_them() -> None:
    table, code = {row.id: row.support for row in rows()}, {row.id: row.support for row in rows_of_code()}
    assert table == code


def test_no_row_is_there_twice() -> None:
    assert [one for one, count in Counter(row.id for row in rows()).items() if count > 1] == []


def test_every_struct_is_one_of_kubernetes_and_none_is_left_out() -> None:
    assert {name for ours in structs() for name in MERGED.get(ours, (ours,))} == KUBERNETES.keys()


@pytest.mark.parametrize("name", list(structs()))
def test_a_struct_has_exactly_kubernetes_fields(name: str) -> None:
    ours = sorted(field.encoded for field in fields_of(structs()[name]))
    assert [KUBERNETES[theirs] for theirs in MERGED.get(name, (name,))] == [ours] * len(
        MERGED.get(name, (name,))
    )


def test_the_table_names_the_version_of_kubernetes_that_it_is_held_against() -> None:
    assert f"Kubernetes {FIELDS['kubernetes']} Pod" in table_path().read_text()


def test_the_list_of_kubernetes_holds_names_and_nothing_else() -> None:
    for fields in KUBERNETES.values():
        assert fields == sorted(set(fields))


TABLE = """\
Some words.
| `notThis` | works | it is in no section |
### `PodSpec`
| field | | remark |
|---|---|---|
| `hostname` | works | as in Kubernetes |
| `affinity` | accepted, no effect on one node | one node |
## Another section
| `norThis` | works | neither |
### `Volume`
| `nfs` | refused | not supported |
"""


def test_reading_a_table() -> None:
    assert [(row.id, row.support) for row in parse(TABLE)] == [
        ("PodSpec.hostname", "works"),
        ("PodSpec.affinity", "no-effect"),
        ("Volume.nfs", "refused"),
    ]


@pytest.mark.parametrize(
    "line", ["| `a` | perhaps | what |", "| `a` | works |", "| `a` | works |  |", "| `a b` | works | what |"]
)
def test_a_line_that_is_no_row_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"line 2 is no row: \| `a"):
        list(parse(f"### `PodSpec`\n{line}\n"))


def test_claims_are_read_from_the_source(tmp_path: Path) -> None:
    source = tmp_path / "test_pod_x.py"
    source.write_text(
        '@covers("PodSpec.hostname", "Volume.name")\n@other("Volume.secret")\nasync def test_a(): ...\n'
        '@podtable.covers("EnvVar.name")\ndef test_b(): ...\n'
    )
    assert claims(source.read_text()) == {"PodSpec.hostname", "Volume.name", "EnvVar.name"}
    table = [row for row in rows_of_code() if row.id in ("PodSpec.hostname", "PodSpec.os", "Volume.nfs")]
    assert uncovered(table, [source]) == ["PodSpec.os"]


def test_a_claim_of_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no row of .*: PodSpec\.hostName"):
        covers("PodSpec.hostname", "PodSpec.hostName")

    @covers("PodSpec.hostname")
    @covers("Volume.name")
    def claimed() -> None:
        """Shows both."""

    assert vars(claimed)["covers"] == ("PodSpec.hostname", "Volume.name")


def test_every_row_that_works_has_a_test_or_stands_in_the_list_of_those_that_lack_one() -> None:
    """The list may only grow shorter: a row with a test is taken off it."""
    files = sorted((Path(__file__).parents[1] / "e2e").glob("test_pod_*.py"))
    listed = (Path(__file__).parents[1] / "data" / "rows-without-a-test.txt").read_text().splitlines()
    assert uncovered(rows(), files) == [line for line in listed if line and not line.startswith("#")]
