"""The manifest reader: what it takes, and that every refusal names the place."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.config import ConfigMap, Secret
from edgeagent.api.objects.pod import Pod, PodStatus
from edgeagent.cli.manifests import MAX_FILE_BYTES, ManifestError, read_manifests
from edgeagent.wire.jsonio import MAX_DEPTH, DocumentError
from edgeagent.wire.normalise import normalise
from edgeagent.wire.yamlio import dump, read_documents

CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n"
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: hello
spec:
  nodeName: n1
  containers:
  - name: web
    image: busybox
    ports:
    - containerPort: 80
    - containerPort: 8080
"""


def config_map(name: str, rest: str = "") -> str:
    return CONFIG_MAP.replace("NAME", name) + rest


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What is wrong with a file ``x.yaml`` of this text."""

    def check(text: str) -> str:
        monkeypatch.chdir(tmp_path)
        Path("x.yaml").write_text(text)
        with pytest.raises(ManifestError) as caught:
            read_manifests(["x.yaml"])
        return str(caught.value)

    return check


def test_documents_of_a_file_in_order_with_the_default_namespace(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"---\n{config_map('one')}---\n# nothing\n---\n{POD}...\n")
    found = read_manifests([str(file)], namespace="shop")
    assert [(m.key, m.source) for m in found] == [
        (("ConfigMap", "shop", "one"), f"{file}: document 1"),
        (("Pod", "shop", "hello"), f"{file}: document 3"),
    ]
    assert isinstance(found[1].object, Pod)
    assert found[1].object.spec.containers[0].ports[1].container_port == 8080


def test_a_namespace_that_was_asked_for_must_be_the_objects_own(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: other}\n")
    assert read_manifests([str(file)], namespace="shop")[0].key == ("ConfigMap", "other", "a")
    with pytest.raises(
        ManifestError, match=r"document 1: metadata\.namespace: 'other' does not match .* 'shop'"
    ):
        read_manifests([str(file)], namespace="shop", enforce_namespace=True)


def test_a_bad_namespace_is_refused() -> None:
    with pytest.raises(ManifestError, match="namespace: 'A B' must be"):
        read_manifests(["-"], namespace="A B", stdin=io.BytesIO(b""))


def test_directories_are_read_in_order_and_deeply_only_if_asked(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.yml", "a.yaml", "deep/d.yaml"):
        (tmp_path / name).write_text(config_map(Path(name).stem))
    (tmp_path / "c.json").write_text(json.dumps(yaml.safe_load(config_map("c"))))
    (tmp_path / "README.md").write_text("no manifest")
    assert [m.key[2] for m in read_manifests([str(tmp_path)])] == ["a", "b", "c"]
    assert [m.key[2] for m in read_manifests([str(tmp_path)], recursive=True)] == ["a", "b", "c", "d"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=r"empty: no \.yaml, \.yml or \.json file"):
        read_manifests([str(tmp_path / "empty")])


def test_standard_input_and_lists() -> None:
    items = [yaml.safe_load(config_map("a")), yaml.safe_load(POD)]
    text = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}}
    )
    found = read_manifests(["-"], stdin=io.BytesIO(text.encode()))
    assert [m.source for m in found] == ["<stdin>: document 1: items[0]", "<stdin>: document 1: items[1]"]
    items[1]["spec"]["containers"][0]["imge"] = 1
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "PodList", "items": items})
    with pytest.raises(
        ManifestError, match=r"document 1: items\[1\]\.spec\.containers\[0\]\.imge: unknown field"
    ):
        read_manifests(["-"], stdin=io.BytesIO(text.encode()))


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(f"{config_map('a', 'dta: {}')}\n---\n{config_map('a')}---\n{config_map('-')}")
    Path("b.yaml").write_text(config_map("a"))
    with pytest.raises(ManifestError) as caught:
        read_manifests(["a.yaml", "b.yaml", "c.yaml"])
    assert caught.value.problems == [
        "a.yaml: document 1: dta: unknown field",
        "a.yaml: document 3: metadata.name: '-' must be lower-case letters, digits, '-' or '.', "
        "and start and end with a letter or digit",
        "b.yaml: document 1: configmap default/a is already defined in a.yaml: document 2",
        "the path 'c.yaml' does not exist",
    ]


def test_a_file_given_twice_is_two_documents_with_one_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(config_map("a"))
    with pytest.raises(ManifestError, match="already defined"):
        read_manifests([str(tmp_path / "a.yaml")] * 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (POD.replace("8080", '"8080"'), "spec.containers[0].ports[1].containerPort: expected int, got str"),
        (POD.replace("name: hello", "labels: {}"), "document 1: metadata.name: required field is missing"),
        (POD.replace("spec:", "spce:"), "document 1: spce: unknown field"),
        (POD.replace("kind: Pod\n", ""), "document 1: kind: required field is missing"),
        (f"{POD}---\n[1]\n", "document 2: expected a mapping"),
        (f"{POD}---\n- a\nb: c\n", "document 2: line 15, column 1: "),
        (POD + "  containers: []\n", "line 13, column 3: spec: duplicate key 'containers' (first on line 7)"),
        ("a: {b: 1, 'b': 2}", "document 1: line 1, column 11: a: duplicate key 'b' (first on line 1)"),
        ('{"a": {"b": 1, "b": 2}}', "document 1: duplicate key 'b'"),
        ('{"a": NaN}', "document 1: NaN is no JSON number"),
        ('{"a": 1,, }', "document 1: line 1, column 9"),
        ("", "there is no object in it"),
        ("# a comment\n---\n", "there is no object in it"),
        (
            config_map("a", "data: {8080: x}"),
            "column 8: data: a key must be str, got int ('8080', to be put in quotes)",
        ),
        (config_map("a", "data: {on: x}"), "a key must be str, got bool"),
        (config_map("a", "data: {? [x] : y}"), "a key must be str, got collection"),
        (config_map("a", "data: {a: b, x: 1, y: z}"), "document 1: data.x: expected str, got int"),
        (
            POD.replace("name: hello", "{name: a, labels: {p: q, r: s, t: [1]}}"),
            "metadata.labels.t: expected str",
        ),
        (POD + "    resources: {limits: {cpu: 1, memory: {}}}", "[0].resources.limits.memory: expected"),
        ("a: !!python/object:os.system {}", "a: the tag has no place here: text that begins with '!'"),
        ("a: !!binary eA==", "the tag '!!binary' has no place here"),
        ("a: !!bool maybe", "document 1"),
        ("a: !!float ''", "document 1"),
        ("a: !!int 0x", "document 1"),
        ("a: &x [*x]", "document 1: line 1, column 4: a[0]: an alias refers to what it is part of"),
        ("a: *x", "document 1: line 1, column 4"),
        ("a: \t{", "document 1"),
        ('{"a": "\\ud800"}', "document 1: holds text that is no Unicode"),
        (config_map("a").replace("ConfigMap", "Node"), "document 1: kind: Node is not for a manifest"),
        (config_map("a").replace("ConfigMap", "List"), "document 1: items: expected array"),
    ],
)
def test_what_is_refused_names_its_place(refused: Callable[[str], str], text: str, problem: str) -> None:
    message = refused(text)
    assert message.startswith("x.yaml: ")
    if problem == "unknown":
        assert "kind: required" in message
    else:
        assert problem in message


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)

FROM_KUBECTL = """\
apiVersion: v1
kind: Pod
metadata:
  name: hello
  generateName: hello-
  namespace: null
  creationTimestamp: null
  selfLink: /api/v1/namespaces/default/pods/hello
  uid: 3f1c
  resourceVersion: "42"
  generation: 1
  labels: {app: hello}
  annotations: null
  managedFields: [{manager: kubectl, operation: Update}]
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: hello, uid: 77aa}]
spec:
  nodeName: n1
  securityContext: {}
  volumes: null
  tolerations: [{key: a, operator: Exists, effect: null}]
  containers:
  - name: web
    image: busybox
    command: null
    resources: {limits: null}
    livenessProbe: {tcpSocket: {port: 80, host: null}, exec: null}
status: {phase: Running, qosClass: BestEffort, containerStatuses: [{name: web, newerField: 1}]}
"""


def read(text: str) -> Pod:
    (manifest,) = read_manifests(["-"], stdin=io.BytesIO(text.encode()))
    assert isinstance(manifest.object, Pod)
    return manifest.object


def test_what_kubectl_prints_can_be_applied() -> None:
    made = read(FROM_KUBECTL)
    assert (made.metadata.name, made.metadata.namespace) == ("hello", "default")
    assert (made.metadata.labels, made.metadata.annotations) == ({"app": "hello"}, {})
    assert (made.metadata.uid, made.metadata.resource_version) == ("3f1c", "42")
    (container,) = made.spec.containers
    assert (container.command, container.resources.limits, made.spec.volumes) == ([], {}, [])
    assert container.liveness_probe is not None
    assert container.liveness_probe.exec is None
    assert made.status == PodStatus()
    listed = {"apiVersion": "v1", "kind": "List", "metadata": None, "items": [yaml.safe_load(FROM_KUBECTL)]}
    assert read(json.dumps(listed)) == made


def test_a_field_that_is_null_is_one_that_is_absent(refused: Callable[[str], str]) -> None:
    assert read(POD + "    args: null\n  restartPolicy: ~\n") == read(POD)
    assert "spec.containers: required field is missing" in refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: null}\n"
    )
    assert "spec: required field is missing" in refused("{apiVersion: v1, kind: Pod, metadata: {name: a}}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (POD + "    args: [a, null]\n", "spec.containers[0].args[1]: expected str, got null"),
        (POD + "    resources: {limits: {cpu: null}}\n", "spec.containers[0].resources.limits.cpu: expected"),
        (POD.replace("name: hello", "{name: a, labels: {b: null}}"), "metadata.labels.b: expected str"),
        (config_map("a", "data: {b: null}"), "data.b: expected str, got null"),
        (config_map("a", "status: {}"), "status: unknown field"),
        (POD.replace("name: hello", "{name: a, finalizers: [x]}"), "metadata.finalizers: not supported"),
        (POD.replace("name: hello", "{generateName: a-}"), "metadata.generateName: cannot be applied"),
        (POD.replace("name: hello", "{name: a, clusterName: b}"), "metadata.clusterName: unknown field"),
    ],
)
def test_what_would_be_lost_is_refused_instead(
    refused: Callable[[str], str], text: str, problem: str
) -> None:
    assert problem in refused(text.replace("metadata:\n  {", "metadata: {"))


def test_no_finalizers_are_no_problem() -> None:
    text = POD.replace("  name: hello", "  name: hello\n  finalizers: []\n  generateName: null")
    assert read(text) == read(POD)


@given(PLAIN)
def test_normalising_twice_is_normalising_once(data: Any) -> None:
    once = normalise({"kind": "Pod", "spec": data})
    assert normalise(once) == once


def test_normalising_leaves_what_it_was_given_as_it_was() -> None:
    given_data = yaml.safe_load(FROM_KUBECTL)
    normalise(given_data)
    assert given_data == yaml.safe_load(FROM_KUBECTL)


def test_half_a_surrogate_pair_is_refused(refused: Callable[[str], str]) -> None:
    text = json.dumps(yaml.safe_load(config_map("a")) | {"data": {"x": "\ud800"}})
    assert refused(text) == "x.yaml: document 1: holds text that is no Unicode (half of a surrogate pair)"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ManifestError, match=r"x\.yaml: not UTF-8 text \(byte 3\)"):
        read_manifests([str(tmp_path / "x.yaml")])
    (tmp_path / "x.yaml").write_bytes(b"a: \x00")
    with pytest.raises(ManifestError, match="not allowed in YAML"):
        read_manifests([str(tmp_path / "x.yaml")])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ManifestError, match=f"more than {MAX_FILE_BYTES} bytes"):
        read_manifests([str(tmp_path / "big.yaml")])
    with pytest.raises(ManifestError, match="URLs are not read"):
        read_manifests(["https://example.com/a.yaml"])


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", '{"a": ', "&a ["])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_nested_too_deep(opening: str, depth: int) -> None:
    with pytest.raises(DocumentError, match=r"nested (more than \d+|too) deep"):
        list(read_documents((opening * depth).encode()))


def test_aliases_that_unfold_too_far_are_refused_before_they_do() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    with pytest.raises(DocumentError, match=r"a\d+: more than \d+ values once its aliases are unfolded"):
        list(read_documents("\n".join(lines).encode()))
    merges = ["a0: &a0 {x: 1}"]
    merges += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 30)]
    with pytest.raises(DocumentError, match="unfolded"):
        list(read_documents("\n".join(merges).encode()))


def test_modest_aliases_and_merges_work() -> None:
    text = b"base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\nsame: *b\n"
    assert [d.data for d in read_documents(text)] == [
        {"base": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}, "same": {"x": 1, "y": 2}}
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-05-01", "2024-05-01"),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("0o17", 15),
        ("017", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("-0", 0),
        ("yes", True),
        ("off", False),
        ("~", None),
        ("'5'", "5"),
        ("089", "089"),
        ("0b101", 5),
        ("1.2.3", "1.2.3"),
        ("+12", 12),
        ("250m", "250m"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    found = next(iter(read_documents(f"a: {text}".encode()))).data
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


def test_secrets_hold_base64(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    head = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
    file.write_text(head + "data: {a: aGk=}\nstringData: {b: hi}\n")
    made = read_manifests([str(file)])[0].object
    assert isinstance(made, Secret)
    assert (made.data, made.string_data) == ({"a": b"hi"}, {"b": "hi"})
    file.write_text(head + "data: {a: '%'}\n")
    with pytest.raises(ManifestError, match=r"s\.yaml: document 1: data"):
        read_manifests([str(file)])


@given(PLAIN.filter(lambda data: data is not None), st.booleans())
def test_what_is_dumped_is_read_back(data: Any, ascii_only: bool) -> None:
    assert [d.data for d in read_documents(dump(data, ascii_only=ascii_only).encode())] == [data]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), PLAIN, max_size=4))
def test_json_is_read_as_json(data: dict[str, Any]) -> None:
    assert [d.data for d in read_documents(json.dumps(data).encode())] == [data]


@given(st.binary(max_size=300) | st.text("{}[]&*:-?!|>'\"#%,\n\t ab01<~.", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        found = read_manifests(["-"], stdin=io.BytesIO(text))
        problems: list[str] = []
    except ManifestError as error:
        found, problems = [], error.problems
    assert bool(found) != bool(problems)
    assert all(problem.startswith("<stdin>: ") for problem in problems)


@given(st.text("abc-.", min_size=1, max_size=6), PLAIN, PLAIN)
def test_any_config_map_is_read_or_refused(name: str, data: Any, labels: Any) -> None:
    text = dump(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}
    )
    try:
        found = read_manifests(["-"], stdin=io.BytesIO(text.encode()))
        problem = ""
    except ManifestError as error:
        found, problem = [], error.problems[0]
    if not found:
        assert problem.startswith("<stdin>: document 1: ")
    else:
        assert isinstance(found[0].object, ConfigMap)
        assert found[0].object.data == (data if data is not None else {})
