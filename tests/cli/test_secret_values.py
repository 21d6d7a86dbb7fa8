"""No error about a manifest holds a value of a Secret, however it is broken; nor does what is shown."""

import base64
import contextlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, PermanentError
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.decode import decode_object, decode_object_json
from edgeagent.api.objects.redaction import LAST_APPLIED, redacted, refuse_redacted, sizes
from edgeagent.cli.ctl.session import decode
from edgeagent.cli.describe import describe
from edgeagent.cli.edgectl import main
from edgeagent.cli.manifests import ManifestError, read_manifests
from edgeagent.cli.output import OutputFormat, print_objects
from edgeagent.node.static.manifest import Origin, read_objects
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.jsonio import DocumentError
from edgeagent.wire.yamlio import read_documents
from tests.support.brokensecrets import FOUND, Manifest, broken_secrets, said_in

VALUE = "s3kr1t-Value_nobody/else=has"
META = {"name": "login", "namespace": "default"}


def secret(**data: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": META, **data}


def from_file(text: bytes) -> None:
    read_manifests(["-"], stdin=io.BytesIO(text))


def from_folder(text: bytes) -> None:
    documents = [(one.number, one.data) for one in read_documents(text)]
    read_objects(documents, Origin("a.yaml", "gw-1", 0.0))


def at_the_hub(text: bytes) -> None:
    decode_object_json(text)


DOORS: list[Callable[[bytes], None]] = [from_file, from_folder, at_the_hub]


def complaint(door: Callable[[bytes], None], text: bytes) -> str:
    """What is said of ``text``; empty where it is taken."""
    try:
        door(text)
    except EdgeAgentError as error:
        return str(error)
    return ""


# Values where they do not belong: as they are, as parts, in lists and maps, as keys' values of other types.
ENCODED = base64.b64encode(VALUE.encode()).decode()
planted = st.recursive(
    st.sampled_from(
        [VALUE, VALUE * 40, f"{VALUE}\0", f"{VALUE}\ud800", ENCODED, ENCODED[:-1], f"!{VALUE}", f"'{VALUE}"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=3,
)
FIELDS = ["data", "stringData", "type", "immutable", "apiVersion", "data.password", "stringData.password",
          "metadata.labels", "metadata.annotations", "metadata.uid", "metadata", "status"]  # fmt: skip


def hidden_in(text: str) -> bool:
    return VALUE not in text and ENCODED[:-4] not in text


@given(st.dictionaries(st.sampled_from(FIELDS), planted, min_size=1, max_size=4))
def test_whatever_is_wrong_with_a_secret_its_values_are_not_said(fields: dict[str, object]) -> None:
    broken = secret()
    for path, value in sorted(fields.items()):
        field, _, key = path.partition(".")
        if not key:
            broken[field] = value
        elif isinstance(inner := broken.get(field, {}), dict):
            broken[field] = {**inner, key: value}
    text = json.dumps(broken).encode()
    for door in DOORS:
        assert hidden_in(complaint(door, text)), door


def test_no_line_of_edgectl_apply_has_a_value(tmp_path: Path) -> None:
    codes: set[int] = set()

    @given(broken_secrets(), st.sampled_from(["yaml", "json"]))
    @example(FOUND[0], "yaml")
    @example(FOUND[1], "json")
    @example(FOUND[2], "json")
    @example(FOUND[3], "yaml")
    def apply(made: tuple[str, Manifest], form: str) -> None:
        value, manifest = made
        file = tmp_path / f"secret.{form}"
        file.write_text(json.dumps(manifest) if form == "json" else yaml.safe_dump(manifest))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            codes.add(main(["apply", "-f", str(file), "--dry-run=client"]))
        assert printed.getvalue()
        assert not said_in(printed.getvalue(), value)

    apply()
    assert codes == {0, 1}


@pytest.mark.parametrize(
    "line",
    [
        "password: !{}",
        "password: !!{}",
        "password: *{}",
        "password: &{} &x y",
        "password: '{}",
        'password: "{}\\q"',
        "password: {}: {}",
        "password: @{}",
        "password: %{}",
        "password: [{}",
        "password: {{{}",
        "password: |\n{}",
        "password: 'x' {}",
        "\tpassword: {}",
        "password {}",
        "- {}",
        "password: !<{}> x",
        "password: !e!{} x",
        "{}",
        "password: >{}",
        "a: &a [*a, {}]",
    ],
)
@pytest.mark.parametrize("value", [VALUE, "hunter2hunter2", "0x_zz_hunter2", "12345678901234"])
def test_no_error_of_yaml_repeats_what_stands_there(line: str, value: str) -> None:
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData:\n  "
        + line.replace("{{", "{").replace("{}", value)
        + "\n"
    ).encode()
    for door in DOORS[:2]:
        assert value not in complaint(door, text)


@given(st.integers(0, 400), st.sampled_from(list("{}[]:,&*!|>'\"%@`-?#\t\n\0\\")), st.randoms())
def test_a_character_anywhere_in_a_secret_brings_no_value_into_the_error(
    position: int, character: str, chance: random.Random
) -> None:
    document = yaml.safe_dump(secret(stringData={"a": VALUE, "b": {"c": VALUE}}, data={"d": VALUE}))
    at = position % (len(document) + 1)
    text = document[:at] + character + document[at + chance.randrange(2) :]
    # What stands before a colon is a key then, and keys are shown.
    for door in DOORS[:2]:
        said = complaint(door, text.encode())
        assert VALUE not in said or f"{VALUE}:" in text or f"? {VALUE}" in text, said


def test_the_places_of_values_are_named_all_the_same() -> None:
    with pytest.raises(InvalidObjectError, match=r"^data\[\*\]: invalid base64 encoded string$"):
        decode_object(secret(data={"password": "no base64!"}))
    with pytest.raises(InvalidObjectError, match=r"^apiVersion: invalid enum value$"):
        decode_object(secret() | {"apiVersion": VALUE})
    with pytest.raises(InvalidObjectError, match=r"^metadata\.name: must be lower-case letters"):
        decode_object(secret() | {"metadata": {"name": VALUE}})
    with pytest.raises(ManifestError, match=r"data\.password: invalid base64"):
        from_file(json.dumps(secret(data={"password": "no base64!"})).encode())


# What is shown


def made(**data: object) -> Secret:
    found = decode_object(secret(**data))
    assert isinstance(found, Secret)
    return found


@given(
    st.dictionaries(st.sampled_from("abc"), st.binary(max_size=30)),
    st.dictionaries(st.sampled_from("cd"), st.text()),
)
def test_a_redacted_secret_has_keys_and_sizes_and_stays_the_same(
    data: dict[str, bytes], texts: dict[str, str]
) -> None:
    texts = {key: text for key, text in texts.items() if text.isprintable()}
    full = msgspec.structs.replace(made(), data=data, string_data=texts)
    shown = redacted(full)
    assert dict(sizes(shown)) == {
        key: len(value) for key, value in (data | {k: t.encode() for k, t in texts.items()}).items()
    }
    assert redacted(shown) == shown
    assert not shown.string_data
    if sizes(shown):
        with pytest.raises(InvalidObjectError, match="mark of a redacted value"):
            refuse_redacted(shown)
    refuse_redacted(full)


@pytest.mark.parametrize("output", ["yaml", "json", "table", "wide", "name"])
def test_no_output_of_an_answer_has_a_value(output: OutputFormat) -> None:
    answer = msgspec.Raw(canonical_json(made(data={"a": ENCODED}, stringData={"b": VALUE})))
    found = decode(answer)
    out = io.StringIO()
    print_objects([found], out=out, now=0.0, output=output, single=True)
    text = out.getvalue() + describe(found, now=0.0)
    assert hidden_in(text)
    assert f"a:  {len(VALUE)} bytes" in text


@pytest.mark.parametrize("output", ["yaml", "json"])
def test_what_was_printed_is_not_applied(output: OutputFormat, tmp_path: Path) -> None:
    out = io.StringIO()
    print_objects(
        [redacted(made(stringData={"password": VALUE}))], out=out, now=0.0, output=output, single=True
    )
    file = tmp_path / f"secret.{output}"
    file.write_text(out.getvalue())
    with pytest.raises(ManifestError, match=r"data\.password: holds the mark of a redacted value"):
        read_manifests([str(file)])
    with pytest.raises(PermanentError, match=r"data\.password: holds the mark of a redacted value"):
        from_folder(file.read_bytes())
    with pytest.raises(ManifestError, match=r"stringData\.password: holds the mark"):
        from_file(json.dumps(secret(stringData={"password": "<redacted: 3 bytes>\n"})).encode())


def test_what_kubectl_keeps_of_a_manifest_is_not_shown() -> None:
    kept = {LAST_APPLIED: json.dumps(secret(stringData={"a": VALUE})), "note": "stays"}
    shown = redacted(msgspec.structs.replace(
        made(), metadata=msgspec.structs.replace(made().metadata, annotations=kept)))  # fmt: skip
    assert shown.metadata.annotations == {"note": "stays"}


def test_an_error_of_the_reader_names_its_place() -> None:
    with pytest.raises(DocumentError, match=r"line 1, column 4: a: the tag has no place here"):
        list(read_documents(f"a: !{VALUE}".encode()))
    with pytest.raises(DocumentError, match=r"line 1, column 4: .*undefined alias$"):
        list(read_documents(b"a: *hunter2"))
