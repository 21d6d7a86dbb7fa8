"""The plugin in its lane, as the agent loads and asks it: a child process, by entry point and settings."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from edgeagent.api.admission import AdmissionRequest
from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.node.plugins.facades import AdmissionFacade, MissingAdmission
from edgeagent.node.plugins.host import PluginHost
from edgeagent.wire.keys import SealingKey
from edgeagent.wire.streamkey import StreamSecret, new_half, read_secret, seal_stream, stream_context
from tests.node.plugin_kit import OURS_OFF, VirtualClock, child_pid
from tests.plugins.security.pods import own, pod
from tests.support.waiting import wait_for_async

Section = Mapping[str, object]
NEW = AdmissionRequest()


def host_with(folder: Path, section: Section) -> PluginHost:
    """A host with the security plugin alone."""
    host = PluginHost(
        {**OURS_OFF, "security": section},
        node_name="n1",
        cluster="c1",
        state_dir=folder / "state",
        run_dir=folder / "run",
        identity_dir=folder / "identity",
        clock=VirtualClock(),
        random=random.Random(7),
        on_change=lambda: None,
    )
    host.load()
    return host


def with_plugin(
    folder: Path, section: Section, body: Callable[[PluginHost, AdmissionFacade], Awaitable[None]]
) -> None:
    """Run ``body`` with the plugin, and stop it after that."""

    async def main() -> None:
        host = host_with(folder, section)
        try:
            [ours] = host.admissions(["security"])
            await body(host, ours)
        finally:
            await host.stop()

    asyncio.run(main())


def test_the_key_of_a_stream_is_opened_in_its_child_for_the_call_it_was_made_for(tmp_path: Path) -> None:
    key = SealingKey.generate()
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / "sealing.key").write_bytes(key.raw)
    context = stream_context("c1", "n1", "user:ann", "exec", "n" * 32)
    secret = StreamSecret(half=new_half())
    sealed = seal_stream(secret, key.public, context)

    async def body(host: PluginHost, _: AdmissionFacade) -> None:
        unsealer = host.unsealer()
        assert unsealer is not None
        assert read_secret(await unsealer.unseal_stream(sealed, context)) == secret
        for other in (stream_context("c1", "n1", "user:ann", "exec", "m" * 32), b"of no stream"):
            with pytest.raises(PermanentError, match="the key of the stream"):
                await unsealer.unseal_stream(sealed, other)

    with_plugin(tmp_path, {}, body)


def test_it_judges_in_its_child(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    section = {
        "exempt_namespaces": ["other"],
        "images": {"require_signatures": ["registry.example.com"], "policy_file": str(file)},
    }

    async def body(host: PluginHost, ours: AdmissionFacade) -> None:
        assert child_pid(host, "security") == 0, "nothing is started for pods that were admitted"
        mutated = await ours.mutate(pod(), NEW)
        context = mutated.spec.containers[0].security_context
        assert context is not None
        assert context.seccomp_profile is not None
        assert child_pid(host, "security") not in (0, os.getpid())
        found = await ours.review(pod(own(privileged=True)), NEW)
        assert [one.field for one in found.violations] == [
            "spec.containers[0].securityContext.privileged",
            "spec.containers[0].image",
        ]
        labels = {
            "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/audit": "baseline",
        }
        file.write_text(json.dumps({"default": [{"type": "signedBy"}]}))
        admitted = await ours.review(pod(), AdmissionRequest(namespace_labels=labels))
        assert (admitted.violations, admitted.audit) == ([], [])
        assert [one.reason for one in admitted.warnings] == ["PodSecurityWarning"]

    with_plugin(tmp_path, section, body)


def _maps(pid: int) -> str:
    """The files that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text()


def test_cryptography_is_not_loaded_to_judge_pods(tmp_path: Path) -> None:
    async def body(host: PluginHost, ours: AdmissionFacade) -> None:
        await ours.review(pod(), NEW)
        assert "cryptography" not in _maps(child_pid(host, "security"))

    with_plugin(tmp_path, {}, body)


def test_a_child_that_is_killed_or_hangs_answers_later(tmp_path: Path) -> None:
    async def body(host: PluginHost, ours: AdmissionFacade) -> None:
        await ours.review(pod(), NEW)
        pid = child_pid(host, "security")
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TemporaryError):
            await host._hosted["security"].call(ours.hook, "review", (pod(), NEW), deadline=0.5)
        await wait_for_async(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the child")
        assert (await ours.review(pod(hostPID=True), NEW)).violations
        os.kill(child_pid(host, "security"), signal.SIGKILL)
        await wait_for_async(lambda: child_pid(host, "security") == 0, what="the end of the child")
        assert (await ours.review(pod(hostPID=True), NEW)).violations

    with_plugin(tmp_path, {}, body)


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"default_level": "strict"}, "plugins.security.default_level: "),
        ({"images": {"allow": []}}, "plugins.security.images"),
        ({"enabled": "no"}, "plugins.security.enabled: "),
    ],
)
def test_settings_that_are_wrong_let_no_new_pod_in(tmp_path: Path, section: Section, why: str) -> None:
    async def body(host: PluginHost, ours: AdmissionFacade) -> None:
        assert isinstance(ours, MissingAdmission)
        assert host.admissions() == []
        for question in (ours.mutate(pod(), NEW), ours.review(pod(), NEW)):
            with pytest.raises(TemporaryError, match=why):
                await question

    with_plugin(tmp_path, section, body)


def test_a_plugin_that_is_disabled_is_not_asked(tmp_path: Path) -> None:
    host = host_with(tmp_path, {"enabled": False})
    assert host.admissions(["security"]) == []


def test_a_process_that_has_opened_a_secret_is_in_no_core_dump(tmp_path: Path) -> None:
    # PR_GET_DUMPABLE is asked of a process by itself alone, and it is not undone.
    code = (
        "import ctypes, pathlib, sys\n"
        "from edgeagent_security.unseal import NodeUnsealer\n"
        "asked = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "before = asked()\n"
        "NodeUnsealer(pathlib.Path(sys.argv[1]), cluster='c1', node='n1')\n"
        "print(before, asked())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "1 0\n"
