"""What policy.json makes Podman refuse, and what it lets in: real signatures by a key of the test's own."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from edgeagent.api.errors import PermanentError
from edgeagent.api.runtime import PullCredentials
from edgeagent_podman.runtime import PodmanRuntime
from tests.plugins.containers import runtime_on
from tests.support.podman import PodmanService
from tests.support.registry import Registry

KEY = "edge@example.com"


class Home:
    """The folder that Podman takes for its user's: policy.json, where signatures lie, and gpg's keys."""

    def __init__(self, path: Path, registry: Registry) -> None:
        self.path = path
        self.registry = registry
        self.gnupg = path / "gnupg"
        self.key = path / "key.asc"
        self.gnupg.mkdir(parents=True, mode=0o700)
        signatures = f"file://{path}/signatures"
        folder = path / ".config/containers/registries.d"
        folder.mkdir(parents=True)
        # Both spellings: Podman 4 knows the second from 4.3 on.
        places = "".join(
            f"    {word}: {signatures}\n"
            for word in ("sigstore", "sigstore-staging", "lookaside", "lookaside-staging")
        )
        (folder / "test.yaml").write_text(f"docker:\n  {registry.address}:\n{places}")
        self.policy = path / ".config/containers/policy.json"
        self.write([{"type": "insecureAcceptAnything"}])

    def write(self, requirements: list[Mapping[str, str]]) -> None:
        """Require this of images of the registry, and nothing of others."""
        scopes = {"docker": {self.registry.address: requirements}}
        self.policy.write_text(
            json.dumps({"default": [{"type": "insecureAcceptAnything"}], "transports": scopes})
        )

    def make_key(self) -> None:
        """A new key, and its public part in ``key``."""
        self._gpg("--quick-gen-key", KEY, "rsa2048", "default", "never")
        self.key.write_text(self._gpg("--armor", "--export", KEY))

    def stop(self) -> None:
        """End the agent that gpg has started."""
        subprocess.run(
            ["gpgconf", "--homedir", str(self.gnupg), "--kill", "all"],
            check=False,
            timeout=20,
            capture_output=True,
        )

    def _gpg(self, *arguments: str) -> str:
        argv = [
            "gpg",
            "--homedir",
            str(self.gnupg),
            "--batch",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ]
        return subprocess.run(
            [*argv, *arguments], check=True, timeout=60, capture_output=True, text=True
        ).stdout


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry of its own."""
    with Registry(tmp_path / "registry") as started:
        yield started


@pytest.fixture
def service(registry: Registry) -> Iterator[tuple[PodmanService, Home]]:
    """A Podman with a home folder of its own."""
    podman = PodmanService(insecure_registries=[registry.address])
    home = Home(podman.directory / "home", registry)
    podman.env["HOME"] = str(home.path)
    podman.env["GNUPGHOME"] = str(home.gnupg)
    podman.process.env = dict(podman.env)
    try:
        podman.start()
        yield podman, home
    finally:
        home.stop()
        podman.close()


def push(podman: PodmanService, registry: Registry, name: str, *options: str) -> str:
    """An image that the registry has and Podman has not."""
    local, reference = podman.import_busybox(), f"{registry.address}/edge/{name}:1"
    podman.run("tag", local, reference)
    podman.run("push", "--quiet", "--tls-verify=false", *options, reference)
    podman.run("untag", local, reference)
    return reference


def refused(runtime: PodmanRuntime, reference: str, credentials: PullCredentials | None = None) -> str:
    """What is said of the image that is not pulled."""
    with pytest.raises(PermanentError) as caught:
        runtime.pull_image(reference, credentials)
    assert caught.value.reason == "SignatureValidationFailed"
    assert runtime.find_image(reference) is None
    return str(caught.value)


def test_an_image_of_a_scope_that_is_rejected(
    service: tuple[PodmanService, Home], registry: Registry
) -> None:
    podman, home = service
    reference, runtime = push(podman, registry, "app"), runtime_on(podman)
    home.write([{"type": "reject"}])
    said = refused(runtime, reference)
    assert said.startswith(f"{reference} is refused by the node's policy.json: ")
    assert "rejected by policy" in said
    home.write([{"type": "insecureAcceptAnything"}])
    assert runtime.pull_image(reference, None).reference == reference


def test_only_an_image_that_the_key_has_signed_is_pulled(
    service: tuple[PodmanService, Home], registry: Registry
) -> None:
    podman, home = service
    home.make_key()
    unsigned = push(podman, registry, "unsigned")
    signed = push(podman, registry, "signed", "--sign-by", KEY)
    home.write([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(home.key)}])
    runtime = runtime_on(podman)
    assert "signature was required" in refused(runtime, unsigned)
    assert runtime.pull_image(signed, None).reference == signed
