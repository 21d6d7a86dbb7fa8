"""Pull policies and pull secrets: https://kubernetes.io/docs/concepts/containers/images/"""

import asyncio
import base64
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.config import Secret
from edgeagent.api.objects.container import Container
from edgeagent.api.runtime import Image, PullCredentials
from edgeagent.node.plugins.facades import RuntimeFacade
from edgeagent.node.pods.images import (
    MAX_CREDENTIALS,
    MAX_DOCKER_CONFIG,
    pull,
    pull_credentials,
    pull_policy,
    require_present,
)
from edgeagent.node.pods.lookup import Lookup
from tests.node.podkit import make_lookup, make_pod


def image(name: str, policy: Any = "") -> Container:
    return Container(name="main", image=name, image_pull_policy=policy)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("registry:5000/busybox", "Always"),
        ("registry:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:ab", "IfNotPresent"),
        ("busybox:latest@sha256:ab", "IfNotPresent"),
    ],
)
def test_the_policy_where_none_is_set(name: str, policy: str) -> None:
    assert pull_policy(image(name)) == policy
    assert pull_policy(image(name, "Never")) == "Never"


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def typed(kind: str, **data: bytes) -> Secret:
    keyed = {"." + key: value for key, value in data.items()}
    return Secret(api_version="v1", metadata=ObjectMeta(name="s"), type=f"kubernetes.io/{kind}", data=keyed)


def docker(**auths: Any) -> Secret:
    return typed("dockerconfigjson", dockerconfigjson=json.dumps(auths).encode())


def config(auths: dict[str, Any]) -> Secret:
    return docker(auths=auths)


def credentials(
    reference: str, *secrets: Secret, lookup: Lookup | None = None
) -> tuple[list[PullCredentials], list[str]]:
    named = {f"s{index}": secret for index, secret in enumerate(secrets)}
    pod = make_pod(imagePullSecrets=[{"name": name} for name in (*named, "")])
    return asyncio.run(pull_credentials(pod, reference, lookup or make_lookup(secrets=named)))


def users(reference: str, *keys: str) -> list[str]:
    """The registries of a secret that match, in the order of trial."""
    found, warnings = credentials(reference, config({key: auth(key.replace(":", "_"), "p") for key in keys}))
    assert warnings == []
    return [each.username.replace("_", ":") for each in found]


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("my-registry.example", "my-registry.example/image"),
        ("my-registry.example", "my-registry.example/image:tag@sha256:00"),
        ("https://my-registry.example", "my-registry.example/image"),
        ("http://my-registry.example/v2/", "my-registry.example/image"),
        ("https://my-registry.example/v1/images", "my-registry.example/images/a"),
        ("my-registry.example/images", "my-registry.example/images"),
        ("my-registry.example/images", "my-registry.example/images/my-image"),
        ("my-registry.example/images", "my-registry.example/images/another-image"),
        ("*.my-registry.example/images", "sub.my-registry.example/images/my-image"),
        ("sub.*.example", "sub.my-registry.example/x"),
        ("prefix.*.example", "prefix.sub.example/x"),
        ("*-good.example", "prefix-good.example/x"),
        ("*.example:8443", "a.example:8443/x"),
        ("localhost:5000", "localhost:5000/x:1"),
        ("localhost", "localhost/x"),
        ("[.example", "[.example/x"),
        ("docker.io", "busybox"),
        ("docker.io/library", "busybox:1"),
        ("docker.io/me", "me/app"),
        ("https://index.docker.io/v1/", "busybox"),
        ("index.docker.io", "docker.io/library/busybox"),
        ("https://index.docker.io/v1/", "index.docker.io/me/app"),
    ],
)
def test_what_matches(key: str, reference: str) -> None:
    assert users(reference, key) == [key.replace("_", ":")]


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("*.my-registry.example", "my-registry.example/image"),
        ("*.my-registry.example", "a.sub.my-registry.example/image"),
        ("*", "my-registry.example/image"),
        ("my-registry.example", "my-registry.example.evil/image"),
        ("my-registry.example", "evil/my-registry.example/image"),
        ("my-registry.example/images", "my-registry.example/other"),
        ("my-registry.example:5000", "my-registry.example/image"),
        ("my-registry.example", "my-registry.example:5000/image"),
        ("my-registry.example:*", "my-registry.example:5000/image"),
        ("my-registry.example/*", "my-registry.example/image"),
        ("my*", "my-registry.example/image"),
        ("quay.io", "busybox"),
        ("docker.io", "quay.io/a/b"),
        ("index.docker.io", "quay.io/a/b"),
    ],
)
def test_what_does_not_match(key: str, reference: str) -> None:
    assert users(reference, key) == []


def test_what_is_more_specific_is_tried_first() -> None:
    keys = ["r.example", "r.example/a", "*.example", "r.example/a/b", "r.example/c"]
    assert users("r.example/a/b/c", *keys) == ["r.example/a/b", "r.example/a", "r.example", "*.example"]


def test_user_and_password_in_the_clear_and_encoded() -> None:
    plain = {"r.example": {"username": "u", "password": "p", "email": "e@r.example"}}
    assert credentials("r.example/a", config(plain)) == ([PullCredentials(username="u", password="p")], [])
    both = {"r.example": {"username": "x", "password": "y", **auth("u", "p:q")}}
    assert credentials("r.example/a", config(both)) == ([PullCredentials(username="u", password="p:q")], [])
    unpadded = {"r.example": {"auth": base64.b64encode(b"user:pw").decode().rstrip("=") + "\n"}}
    assert credentials("r.example/a", config(unpadded))[0] == [
        PullCredentials(username="user", password="pw")
    ]
    assert credentials("r.example/a", config({"r.example": {}})) == ([], [])


def test_the_older_form_of_a_secret() -> None:
    secret = typed("dockercfg", dockercfg=json.dumps({"r.example": auth("u", "p")}).encode())
    assert credentials("r.example/a", secret) == ([PullCredentials(username="u", password="p")], [])


def test_secrets_are_taken_in_order_and_each_pair_once() -> None:
    secrets = [config({"r.example": auth(name, "p")}) for name in ("one", "two", "one")]
    assert [each.username for each in credentials("r.example/a", *secrets)[0]] == ["one", "two"]
    many = [config({"r.example": auth(f"u{index}", "p")}) for index in range(MAX_CREDENTIALS + 5)]
    assert len(credentials("r.example/a", *many)[0]) == MAX_CREDENTIALS


def test_a_secret_that_is_missing_is_passed_over_with_a_warning() -> None:
    good = config({"r.example": auth("u", "p")})
    found, warnings = credentials("r.example/a", good, good, lookup=make_lookup(secrets={"s1": good}))
    assert [each.username for each in found] == ["u"]
    assert warnings == ["Unable to retrieve image pull secret 's0': not found"]


def test_a_secret_that_cannot_be_opened_is_passed_over_with_a_warning() -> None:
    async def closed(_: str) -> Secret | None:
        raise TemporaryError("no key yet")

    lookup = Lookup(config_map=lambda _: None, secret=closed)
    found, warnings = credentials("r.example/a", config({}), lookup=lookup)
    assert found == []
    assert warnings == ["Unable to retrieve image pull secret 's0': no key yet"]


@pytest.mark.parametrize(
    "secret",
    [
        typed("dockerconfigjson"),
        typed("dockercfg", dockerconfigjson=b"{}"),
        typed("tls", dockerconfigjson=b'{"auths": {}}'),
        typed("dockerconfigjson", dockerconfigjson=b"not json hunter2"),
        typed("dockerconfigjson", dockerconfigjson=b'{"auths": {"r.example": "hunter2"}}'),
        typed("dockerconfigjson", dockerconfigjson=b"\xff"),
        typed("dockerconfigjson", dockerconfigjson=b"[" * 100_000),
        typed("dockerconfigjson", dockerconfigjson=b" " * MAX_DOCKER_CONFIG + b"{}"),
        config({"r.example": {"auth": "!hunter2"}}),
        config({"r.example": {"auth": base64.b64encode(b"hunter2").decode()}}),
        config({"r.example": {"auth": base64.b64encode(b"\xff:hunter2").decode()}}),
    ],
)
def test_a_secret_that_is_no_pull_secret(secret: Secret) -> None:
    found, warnings = credentials("r.example/a", secret)
    assert found == []
    assert len(warnings) == 1
    assert "hunter2" not in warnings[0]


@given(data=st.binary(max_size=60))
def test_noise_in_a_secret_does_no_harm(data: bytes) -> None:
    assert credentials("r.example/a", typed("dockerconfigjson", dockerconfigjson=data))[0] == []


class Registry:
    """A runtime that notes what it is asked, and answers with the errors it was given, in turn."""

    def __init__(self, *errors: Exception | None) -> None:
        self._errors = list(errors)
        self.asked: list[str] = []

    async def pull_image(self, reference: str, credentials: PullCredentials | None) -> Image:
        """The image, or the next error."""
        self.asked.append(credentials.username if credentials is not None else "")
        if (error := self._errors.pop(0)) is not None:
            raise error
        return Image(id="i", reference=reference)

    async def find_image(self, reference: str) -> Image | None:
        """Nothing."""
        return None


ONE, TWO = (PullCredentials(username=name, password="p") for name in ("one", "two"))


def pulled(registry: Registry, *tried: PullCredentials) -> None:
    asyncio.run(pull(cast(RuntimeFacade, registry), image("r.example/a:1"), tried))


def test_each_credential_is_tried_then_none() -> None:
    registry = Registry(TemporaryError("401"), PermanentError("403"), None)
    pulled(registry, ONE, TWO)
    assert registry.asked == ["one", "two", ""]
    registry = Registry(None)
    pulled(registry, ONE, TWO)
    assert registry.asked == ["one"]
    registry = Registry(None)
    pulled(registry)
    assert registry.asked == [""]


def test_what_every_try_said_is_told_once() -> None:
    registry = Registry(TemporaryError("401"), TemporaryError("401"), TemporaryError("denied"))
    with pytest.raises(TemporaryError, match=r"^r\.example/a:1: 401; denied$") as error:
        pulled(registry, ONE, TWO)
    assert error.value.reason == "ErrImagePull"


def test_a_runtime_that_is_not_there_is_not_asked_again() -> None:
    registry = Registry(TemporaryError("backing off", reason="PluginUnavailable"))
    with pytest.raises(TemporaryError, match="backing off") as error:
        pulled(registry, ONE, TWO)
    assert error.value.reason == "PluginUnavailable"
    assert registry.asked == ["one"]


def test_a_reference_that_cannot_work() -> None:
    with pytest.raises(PermanentError, match="no such reference"):
        pulled(Registry(PermanentError("no such reference")))


def test_never() -> None:
    with pytest.raises(PermanentError) as error:
        asyncio.run(require_present(cast(RuntimeFacade, Registry()), image("a")))
    assert error.value.reason == "ErrImageNeverPull"
