"""What the hub answers to Secrets that cannot be applied, logs and audits: never a value."""

import logging
import random
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import example, given

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.allocation import ClusterNetwork
from edgeagent.cluster.api import Api
from edgeagent.cluster.audit import AuditLogs
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.operatorgate import Caller
from edgeagent.cluster.publisher import Publisher
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store
from edgeagent.cluster.views import Views
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.hubapi import ApplyParams, GetParams
from edgeagent.wire.session import MqttSession
from edgeagent.wire.topics import Topics
from tests.support.brokensecrets import FOUND, Manifest, broken_secrets, said_in
from tests.support.operators import admin_caller

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"}}


def hub_api(store: Store) -> Api:
    """The operators' calls without a broker: nothing is published."""
    clock, signing = SystemClock(), Signing.create("plant")
    publisher = Publisher(
        store, cast(MqttSession, None), lambda: signing, Topics("plant"),
        clock=clock, rng=random.Random(1), grace=0.0, on_published=lambda _: None, on_failed=lambda _: None,
    )  # fmt: skip
    observer = Observer(
        store, clock, on_change=lambda *_: None, on_gone=lambda *_: None, on_node=lambda _: None
    )
    audit = AuditLogs(store, clock)
    return Api(
        store, Views(store, observer, publisher, audit), observer, lambda: signing, audit,
        network=ClusterNetwork(), clock=clock, wake=lambda _: None, on_change=lambda *_: None,
    )  # fmt: skip


def answer(api: Api, caller: Caller, *manifests: Manifest) -> str:
    """What comes of applying, and what can be read then; or why it is refused."""
    objects = [msgspec.Raw(msgspec.json.encode(one)) for one in manifests]
    try:
        said = repr(api.apply(ApplyParams(objects=objects), caller))
    except EdgeAgentError as error:
        return str(error)
    shown = [canonical_json(one).decode() for one in api.get(GetParams(kind="Secret"), caller)]
    # What a person wrote into the metadata is shown: it is no value.
    return said + "".join(one.partition('"metadata"')[0] for one in shown)


def test_no_answer_log_or_audit_of_the_hub_has_a_value(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "hub.db", create=True)
    api, caller = hub_api(store), admin_caller(store)
    caplog.set_level(logging.DEBUG)
    outcomes: set[bool] = set()

    @given(broken_secrets(), broken_secrets())
    @example(FOUND[0], FOUND[1])
    @example(FOUND[2], FOUND[3])
    def apply(first: tuple[str, Manifest], second: tuple[str, Manifest]) -> None:
        for manifests in ([first[1]], [second[1]], [first[1], second[1]]):
            said = answer(api, caller, *manifests)
            outcomes.add(said.startswith("ApplyResult"))
            for value, _ in (first, second):
                assert not said_in(said, value)
        audit = str(store.execute("SELECT body FROM audit"))
        files = b"".join(path.read_bytes() for path in tmp_path.glob("hub.db*"))
        for value, _ in (first, second):
            assert not said_in(caplog.text, value)
            assert not said_in(audit, value)
            assert value.encode() not in files

    apply()
    value = "a-value-that-is-too-long"
    for field in ("data", "stringData"):
        said = answer(api, caller, {**SECRET, field: {"a": value * 80_000}})
        assert "more than" in said or "base64" in said
        assert not said_in(said, value)
    assert outcomes == {True, False}
    store.close()
