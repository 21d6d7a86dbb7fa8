"""Rules for images: names taken apart, patterns, digests, and what policy.json covers.

containers-policy.json(5); https://pkg.go.dev/github.com/distribution/reference
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.objects.decode import convert
from edgeagent_security.config import ImagesConfig
from edgeagent_security.containerspolicy import MAX_BYTES, ContainersPolicy, read_policy
from edgeagent_security.imagepolicy import image_violations
from edgeagent_security.imagereference import MAX_LENGTH, ImageReference, parse
from tests.plugins.security.pods import pod

SHA = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", ("", "busybox", "", "")),
        ("busybox:1.36", ("", "busybox", "1.36", "")),
        ("team/app", ("", "team/app", "", "")),
        ("docker.io/busybox", ("docker.io", "library/busybox", "", "")),
        ("index.docker.io/team/app:1", ("docker.io", "team/app", "1", "")),
        ("localhost/app:1", ("localhost", "app", "1", "")),
        ("registry:5000/app", ("registry:5000", "app", "", "")),
        (f"registry.example.com/a/b/c:t@{SHA}", ("registry.example.com", "a/b/c", "t", SHA)),
        ("Registry.example.com/app", ("Registry.example.com", "app", "", "")),
        ("[::1]:5000/app:1", ("[::1]:5000", "app", "1", "")),
        ("sha256:0a0a", ("", "sha256", "0a0a", "")),
    ],
)
def test_names(text: str, expected: tuple[str, str, str, str]) -> None:
    assert parse(text) == ImageReference(*expected)


@pytest.mark.parametrize(
    "text",
    ["", "docker://registry.example.com/app", "registry.example.com/App", "oci:/path", "a//b", "app:",
     "app@sha256:1", "registry.example.com./app", "app\n", " app", "-app",
     "registry.example.com/app:" + "t" * 129,
     "a" * (MAX_LENGTH + 1), "registry.example.com/../app"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    assert parse(text) is None


@given(st.text(max_size=300) | st.text("ab./:@-_[]", max_size=60))
def test_any_text_is_a_name_or_none(text: str) -> None:
    found = parse(text)
    if found is not None:
        assert found.path.rpartition("/")[2] in text
        assert (found.registry == "") == (not found.name.partition("/")[0])


def problems(image: str, **settings: Any) -> list[str]:
    """What is said of one image."""
    found = image_violations(pod({"image": image}), convert(settings, ImagesConfig))
    assert all(one.field == "spec.containers[0].image" for one in found)
    return [one.message for one in found]


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("registry.example.com", "registry.example.com/app:1", True),
        ("registry.example.com", "registry.example.com/a/b/c", True),
        ("registry.example.com", "registry.example.com.evil.example/app", False),
        ("registry.example.com", "evil.registry.example.com/app", False),
        ("registry.example.com", "REGISTRY.example.com/app", True),
        ("registry.example.com", "registry.example.com:443/app", True),
        ("registry.example.com", "registry.example.com:5000/app", False),
        ("registry.example.com:5000", "registry.example.com:5000/app", True),
        ("registry.example.com:5000", "registry.example.com/app", False),
        ("registry.example.com/team", "registry.example.com/team/app", True),
        ("registry.example.com/team", "registry.example.com/team", True),
        ("registry.example.com/team", "registry.example.com/teams/app", False),
        ("registry.example.com/team", "registry.example.com/other/team/app", False),
        ("registry.example.com/*/app", "registry.example.com/x/app", True),
        ("registry.example.com/*/app", "registry.example.com/x/y/app", False),
        ("registry.example.com/app-*", "registry.example.com/app-one:2", True),
        ("registry.example.com/app-*", "registry.example.com/app", False),
        ("*.example.com", "a.b.example.com/app", True),
        ("*.example.com", "example.com/app", False),
        ("*.example.com", "evilexample.com/app", False),
        ("docker.io/library", "docker.io/busybox", True),
        ("docker.io", "index.docker.io/busybox", True),
    ],
)
def test_allowed_places(pattern: str, image: str, allowed: bool) -> None:
    found = problems(image, allowed=["localhost/other", pattern])
    rule = "plugins.security.images.allowed"
    said = f'image "{image}" does not come from an allowed registry or repository ({rule})'
    assert found == ([] if allowed else [said])


def test_a_name_without_a_registry_is_no_allowed_one() -> None:
    for image in ("busybox", "team/app:1", "docker.io", SHA):
        [said] = problems(image, allowed=["docker.io"])
        assert "must begin with its registry" in said
    assert problems("busybox") == []
    assert problems(f"busybox@{SHA}", require_digest=True) == []


def test_no_rule_reads_no_name() -> None:
    assert problems("docker://x/y") == []
    [said] = problems("docker://x/y", require_digest=True)
    assert said == f'image "docker://x/y" is not an image\'s name of at most {MAX_LENGTH} characters'


@pytest.mark.parametrize(
    ("image", "pinned"),
    [(f"r.example/app@{SHA}", True), (f"r.example/app:1@{SHA}", True), ("r.example/app:1", False),
     (f"r.example/app@{SHA[:-2]}", False), (f"r.example/app@{SHA.upper().replace('SHA', 'sha')}", False),
     ("r.example/app@md5:" + "0" * 32, False)],
)  # fmt: skip
def test_digests(image: str, pinned: bool) -> None:
    assert (problems(image, require_digest=True) == []) is pinned


def test_init_containers_are_looked_at_too() -> None:
    made = pod({"image": "r.example/b"}, initContainers=[{"image": "r.example/a"}])
    found = image_violations(made, ImagesConfig(require_digest=True))
    assert [one.field for one in found] == ["spec.initContainers[0].image", "spec.containers[0].image"]


SIGNED = [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]
ANYTHING = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]


def policy(default: list[dict[str, str]], **scopes: list[dict[str, str]]) -> ContainersPolicy:
    """A policy; scopes of the transport ``docker``."""
    return convert({"default": default, "transports": {"docker": scopes}}, ContainersPolicy)


def scope(image: str, *scopes: str) -> str:
    """Which of the scopes holds for an image."""
    reference = parse(image)
    assert reference is not None
    return policy(ANYTHING, **dict.fromkeys(scopes, SIGNED)).scope_of(reference)[0]


def test_the_most_specific_scope_holds() -> None:
    image = "a.b.example.com:5000/team/app"
    chain = [
        f"{image}:latest",
        image,
        "a.b.example.com:5000/team",
        "a.b.example.com:5000",
        "*.b.example.com",
        "*.example.com",
        "*.com",
        "",
    ]
    for place, expected in enumerate(chain):
        assert scope(image, *chain[place:]) == f'scope "{expected}"'
    assert scope(image, "other") == "default"
    assert scope(image, "a.b.example.com", "b.example.com", "example.com:5000/team/ap") == "default"


@pytest.mark.parametrize(
    ("image", "identity"),
    [
        ("r.example/app", "r.example/app:latest"),
        ("r.example/app:2", "r.example/app:2"),
        (f"r.example/app:2@{SHA}", f"r.example/app@{SHA}"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
    ],
)
def test_one_image_is_a_scope(image: str, identity: str) -> None:
    assert scope(image, identity) == f'scope "{identity}"'


@pytest.mark.parametrize(
    ("requirements", "covered"),
    [
        (SIGNED, True),
        ([{"type": "sigstoreSigned", "keyPath": "/k"}], True),
        ([*ANYTHING, *SIGNED], True),  # all of them must be met
        (ANYTHING, False),
        (REJECT, False),
        ([], False),
    ],
)
def test_what_covers_an_image(tmp_path: Path, requirements: list[dict[str, str]], covered: bool) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"default": ANYTHING, "transports": {"docker": {"r.example": requirements}}}))
    settings = {"require_signatures": ["r.example/team"], "policy_file": str(file)}
    said = (
        'image "r.example/team/app:1" must be signed (plugins.security.images.require_signatures):'
        f' scope "r.example" of {file} has neither signedBy nor sigstoreSigned'
    )
    assert problems("r.example/team/app:1", **settings) == ([] if covered else [said])
    assert problems("r.example/other/app:1", **settings) == []


@pytest.mark.parametrize("image", ["R.example/app", "r.example:443/app", "r.example:80/app"])
def test_neither_case_nor_port_leads_around_a_signature(tmp_path: Path, image: str) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"default": ANYTHING, "transports": {"docker": {"r.example": SIGNED}}}))
    # Podman itself goes by the name as it is written, for which policy.json asks nothing.
    [said] = problems(image, require_signatures=["r.example"], policy_file=str(file))
    assert "default of" in said


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"default": 1}', '{"default": [{"type": 1}]}', '{"default": [{}]}', "\xff",
     '{"default": [], "transports": {"docker": []}}', "[" * 5000, '{"default": [' + " " * MAX_BYTES],
)  # fmt: skip
def test_a_policy_file_that_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"is not valid|is longer than"):
        read_policy(file)


def test_the_policy_file_of_debian_is_read() -> None:
    read_policy(Path("/etc/containers/policy.json"))
