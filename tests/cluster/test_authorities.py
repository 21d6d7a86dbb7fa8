"""The cluster's CAs over time, and the certificates of broker and hub, in the files and on a real broker."""

import asyncio
import os
import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.authorities import load_authorities, retire_previous, rotate_authority
from edgeagent.cluster.ca import CA_DAYS, VALID_DAYS
from edgeagent.cluster.hub import Hub
from edgeagent.cluster.init import init
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.nodes import add_node
from edgeagent.cluster.owncertificates import OwnCertificates, renew_own
from edgeagent.cluster.rotation import ca_status, finish_rotation, rotate_ca
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.store import Store
from edgeagent.cluster.trust import follow_files
from edgeagent.testing.clock import ManualClock
from edgeagent.wire.certificates import (
    Certificate,
    PrivateKey,
    check_chain,
    read_bundle,
    read_certificate,
    read_certificate_der,
)
from edgeagent.wire.join import BrokerAddress
from tests.support.broker import MOSQUITTO
from tests.support.proc import Process, free_port, port_answers
from tests.support.waiting import wait_for_async

NOW = 1_800_000_000.0
DAY = 86_400.0
CALLS = ["open", "replace", "rename", "link", "unlink", "fsync", "fchmod"]


def make(folder: Path, clock: ManualClock, port: int = 8883) -> HubFiles:
    """A cluster as ``edgehub init`` makes it at the clock's time."""
    address = BrokerAddress(host="127.0.0.1", port=port)
    return init(folder, "plant", [address], listen=address, clock=clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def files(tmp_path: Path, clock: ManualClock) -> HubFiles:
    return make(tmp_path / "hub", clock)


def test_a_new_ca_issues_and_those_before_count_until_they_are_retired(
    files: HubFiles, clock: ManualClock
) -> None:
    first = load_authorities(files, clock)
    assert first.previous == ()
    before = read_certificate(first.current.node("gw-1").certificate)
    second = rotate_authority(files, "plant", clock)
    third = rotate_authority(files, "plant", clock)
    assert third.current.key_id not in (first.current.key_id, second.current.key_id)
    assert [one.key_id for one in third.previous] == [second.current.key_id, first.current.key_id]
    names = [one.common_name for one in read_bundle(third.bundle)]
    assert names == ["edgeagent plant CA 3", "edgeagent plant CA 2", "edgeagent plant CA"]
    key = PrivateKey.generate()
    own, *between = read_bundle(third.sign(key.request("gw-1"), "gw-1", 365).certificate)
    for bundle in (third.bundle, second.bundle, first.bundle):
        check_chain(own, bundle, now=NOW, between=between)
    check_chain(before, third.bundle, now=NOW)
    assert third.revocation_lists([before.serial]).count("BEGIN X509 CRL") == 3
    assert retire_previous(files, clock) == 2
    last = load_authorities(files, clock)
    assert last.previous == ()
    assert last.current.key_id == third.current.key_id
    assert last.chain == third.chain, "who slept through it all follows what leads to the newest"
    assert files.previous_ca_keys.read_bytes() == b""
    with pytest.raises(PermanentError, match="not signed"):
        check_chain(before, last.bundle, now=NOW)
    own, *between = read_bundle(last.sign(key.request("gw-1"), "gw-1", 365).certificate)
    assert between == []
    assert retire_previous(files, clock) == 0


def test_only_so_many_cas_count_at_a_time(files: HubFiles, clock: ManualClock) -> None:
    for _ in range(7):
        rotate_authority(files, "plant", clock)
    with pytest.raises(PermanentError, match="--finish"):
        rotate_authority(files, "plant", clock)
    retire_previous(files, clock)
    for _ in range(10):
        rotate_authority(files, "plant", clock)
        retire_previous(files, clock)
    assert len(load_authorities(files, clock).chain) == 12


class PowerCut(BaseException):
    """Nothing is carried out from here on."""


def cut_after(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Let so many calls to the system through."""
    count = [left]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if count[0] <= 0:
                raise PowerCut
            count[0] -= 1
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("change", ["rotate", "retire"])
def test_a_power_cut_at_any_step_leaves_the_cas_as_they_were_or_as_they_were_to_be(
    tmp_path: Path, clock: ManualClock, change: str
) -> None:
    seen = []
    step = 0
    while True:
        files = make(tmp_path / f"hub-{step}", clock)
        rotate_authority(files, "plant", clock)
        before = load_authorities(files, clock)
        with pytest.MonkeyPatch.context() as monkeypatch:
            cut_after(monkeypatch, step)
            try:
                if change == "rotate":
                    rotate_authority(files, "plant", clock)
                else:
                    retire_previous(files, clock)
                whole = True
            except PowerCut:
                whole = False
        after = load_authorities(files, clock)
        was = [one.key_id for one in (before.current, *before.previous)]
        now = [one.key_id for one in (after.current, *after.previous)]
        wanted = now[1:] == was if change == "rotate" else now == was[:1]
        assert now == was or wanted, f"after {step} calls"
        assert not files.next_ca.exists()
        check_chain(read_certificate(after.current.node("gw-1").certificate), after.bundle, now=NOW)
        seen.append(wanted)
        if whole:
            break
        step += 1
    assert step > 15
    assert seen == sorted(seen)
    assert not seen[0]
    assert seen[-1]


def test_a_key_of_another_ca_is_not_taken(files: HubFiles, clock: ManualClock, tmp_path: Path) -> None:
    files.ca_key.write_bytes(make(tmp_path / "other", clock).ca_key.read_bytes())
    with pytest.raises(PermanentError, match="do not belong together"):
        load_authorities(files, clock)
    files.ca_key.unlink()
    with pytest.raises(PermanentError, match=r"ca\.key"):
        load_authorities(files, clock)


def test_nodes_are_told_of_the_cas_once(files: HubFiles, clock: ManualClock) -> None:
    settings = load_settings(files.settings)
    store = Store(files.database)
    try:
        follow_files(store, files, settings, clock)
        assert not follow_files(store, files, settings, clock)
        version = store.select("ClusterTrust")[0].version
        rotate_authority(files, "plant", clock)
        assert follow_files(store, files, settings, clock)
        assert store.select("ClusterTrust")[0].version > version
        files.ca_key.unlink()
        assert not follow_files(store, files, settings, clock), "no key is needed to say it"
    finally:
        store.close()


# The broker's and the hub's own


def test_own_certificates_are_renewed_at_two_thirds_for_the_same_keys(
    files: HubFiles, clock: ManualClock
) -> None:
    def facts() -> list[Certificate]:
        return [
            read_certificate(path.read_bytes()) for path in (files.broker_certificate, files.hub_certificate)
        ]

    before = facts()
    told: list[str] = []
    own = OwnCertificates(files, lambda: load_authorities(files, clock), clock, lambda: told.append("hub"))
    clock.set_wall_clock(VALID_DAYS * DAY * 0.66)
    own.look()
    assert facts() == before
    clock.set_wall_clock(VALID_DAYS * DAY * 0.01)
    own.look()
    after = facts()
    assert told == ["hub"]
    for old, new in zip(before, after, strict=True):
        assert new.not_after > old.not_after + 5 * 365 * DAY
        assert (new.public_key, new.common_name) == (old.public_key, old.common_name)
        check_chain(new, files.ca_certificate.read_bytes(), now=clock.now())
    own.look()
    assert facts() == after


def test_a_ca_that_ends_soon_is_said_and_does_not_have_certificates_made_every_day(
    files: HubFiles, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.set_wall_clock(CA_DAYS * DAY - 30 * DAY)
    renew_own(files, load_authorities(files, clock), clock.now())
    own = OwnCertificates(files, lambda: load_authorities(files, clock), clock, lambda: None)
    serial = read_certificate(files.broker_certificate.read_bytes()).serial
    for _ in range(29):
        clock.set_wall_clock(DAY)
        own.look()
    assert read_certificate(files.broker_certificate.read_bytes()).serial == serial
    assert "edgehub ca rotate" in caplog.text


def test_a_hub_without_the_cas_key_says_what_to_do(
    files: HubFiles, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    files.ca_key.unlink()
    own = OwnCertificates(files, lambda: load_authorities(files, clock), clock, lambda: None)
    own.look()
    assert caplog.text == ""
    clock.set_wall_clock(VALID_DAYS * DAY * 0.67)
    own.look()
    assert f"put {files.ca_key} in its place and run `edgehub ca status`" in caplog.text


async def _shown(port: int, ca: Path) -> list[Certificate]:
    """What the broker shows to whoever connects, and that it can be believed with ``ca``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    del reader
    return [read_certificate_der(found)]


def test_a_hub_that_runs_renews_the_brokers_certificate_on_the_running_broker(tmp_path: Path) -> None:
    """Made seven years ago; and then two new CAs, which whoever believes the first follows."""
    port = free_port()
    files = make(tmp_path / "hub", ManualClock(time.time() - 7 * 365 * DAY), port)
    ca = tmp_path / "first.crt"
    ca.write_bytes(files.ca_certificate.read_bytes())
    before = read_certificate(files.broker_certificate.read_bytes()).serial
    broker = Process([MOSQUITTO, "-c", str(files.mosquitto_config)], log=tmp_path / "mosquitto.log")

    async def main() -> None:
        assert (await _shown(port, ca))[0].serial == before
        hub = Hub(files.root, reconnect_first=0.05)
        running = asyncio.create_task(hub.run())
        try:
            await wait_for_async(lambda: running.done() or hub.settled, what="the hub to have published")

            async def shows(serial: str) -> bool:
                return (await _shown(port, ca))[0].serial == serial

            renewed = read_certificate(files.broker_certificate.read_bytes()).serial
            assert renewed != before
            await wait_for_async(lambda: shows(renewed), what="the broker to show it")
            for _ in range(2):
                done = await rotate_ca(files, SystemClock(), random.Random(1))
                assert done.problem == ""
            issued = read_certificate(files.broker_certificate.read_bytes())
            assert issued.issuer_key == load_authorities(files, SystemClock()).current.key_id
            await wait_for_async(lambda: shows(issued.serial), what="the broker to show the newest CA's")
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])

    with broker:
        broker.wait_until(lambda: port_answers(port), what="accepting connections")
        asyncio.run(main())


def test_a_ca_that_nodes_and_operators_use_is_not_retired_unless_told_to(
    files: HubFiles, clock: ManualClock
) -> None:
    def finish(*, force: bool = False) -> None:
        asyncio.run(finish_rotation(files, SystemClock(), random.Random(1), force=force))

    with pytest.raises(PermanentError, match="no older CA"):
        finish()
    add_node(files, "gw-1", clock, output=None)
    rotate_authority(files, "plant", clock)
    add_node(files, "gw-2", clock, output=None)
    newest, oldest = ca_status(files, clock)
    assert (newest.nodes, oldest.nodes) == (["gw-2"], ["gw-1"])
    assert (newest.operators, oldest.operators) == ([], ["admin"])
    with pytest.raises(PermanentError, match="gw-1, operator admin"):
        finish()
    assert len(ca_status(files, clock)) == 2
    finish(force=True)
    assert len(ca_status(files, clock)) == 1
