"""``edgehub ca rotate`` and ``ca status``: a new CA beside the old one, and the old one retired.

From a process of its own, whether the hub runs or not: it shares the files and the store with the hub, and
tells it to look again.
"""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.authorities import load_authorities, retire_previous, rotate_authority
from edgeagent.cluster.brokerfiles import notify_broker
from edgeagent.cluster.certificates import current
from edgeagent.cluster.layout import HubFiles, write_file
from edgeagent.cluster.lock import notify_hub
from edgeagent.cluster.owncertificates import renew_own
from edgeagent.cluster.revocation import Revocations
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.store import Store
from edgeagent.wire.certificates import read_certificate
from edgeagent.wire.tls import client_context
from edgeagent.wire.trial import try_connection

PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class CaStatus:
    """One CA that counts. ``nodes`` are those whose certificate in use is of it; times since 1970."""

    name: str
    issues: bool
    not_before: float
    not_after: float
    nodes: list[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change. ``problem``: what is left to do for the broker; ``told``: a running hub."""

    name: str
    problem: str
    told: bool


def ca_status(files: HubFiles, clock: Clock) -> list[CaStatus]:
    """The CAs that count, the one that issues first. Brings the hub's own certificates up to date."""
    load_settings(files.settings)
    authorities = load_authorities(files, clock)
    if renew_own(files, authorities, clock.now()):
        notify_broker(files)
        notify_hub(files.lock)
    store = Store(files.database)
    try:
        used = current(store)
        of = {node.name: used[node.name].ca if node.name in used else "" for node in store.nodes()}
    finally:
        store.close()
    every = (authorities.current, *authorities.previous)
    ids = [one.key_id for one in every]
    found = []
    for one in every:
        own = read_certificate(one.certificate)
        # A node whose certificate was not kept has it since before any rotation: it is the oldest CA's.
        nodes = [n for n, ca in of.items() if ca == one.key_id or (ca not in ids and one is every[-1])]
        found.append(
            CaStatus(
                own.common_name, one is authorities.current, own.not_before, own.not_after, sorted(nodes)
            )
        )
    return found


async def rotate_ca(files: HubFiles, clock: Clock, rng: random.Random) -> Outcome:
    """A new CA, which issues from now on. The old ones count until they are retired.

    First the broker believes it, then its own certificate is of it, then the nodes hear of it.
    """
    settings = load_settings(files.settings)
    rotate_authority(files, settings.cluster, clock)
    return await _carried_out(files, clock, rng)


async def finish_rotation(files: HubFiles, clock: Clock, rng: random.Random, *, force: bool) -> Outcome:
    """Retire the CAs before the one that issues: PermanentError while nodes use them, unless ``force``.

    A node that is cut off by it comes back through the enrolment listener.
    """
    _, *previous = ca_status(files, clock)
    if not previous:
        raise PermanentError("there is no older CA to retire: `edgehub ca rotate` makes a new one first")
    late = sorted(name for one in previous for name in one.nodes)
    if late and not force:
        names = ", ".join(late[:10]) + (", …" if len(late) > 10 else "")
        raise PermanentError(
            f"{len(late)} nodes have not renewed yet: {names}. Wait for them,"
            " or add --force: they then come back through the enrolment listener",
            reason="Conflict",
        )
    authorities = load_authorities(files, clock)
    old = authorities.previous[-1].node("check", 1)
    retire_previous(files, clock)
    return await _carried_out(files, clock, rng, tried=(old.certificate, old.key))


async def _carried_out(
    files: HubFiles, clock: Clock, rng: random.Random, tried: tuple[str, str] | None = None
) -> Outcome:
    """Have broker and hub follow the files. ``tried``: a certificate and key that must not be let in."""
    settings = load_settings(files.settings)
    store = Store(files.database)
    try:
        revocations = Revocations(files, settings, store, clock, rng)
        problem = (await revocations.enforce()).problem
        authorities = load_authorities(files, clock)
        if renew_own(files, authorities, clock.now()):
            notify_broker(files)
        if tried is not None and not problem:
            problem = await _still_let_in(files, clock, rng, *tried)
    finally:
        store.close()
    name = read_certificate(authorities.current.certificate).common_name
    return Outcome(name, problem, notify_hub(files.lock))


async def _still_let_in(files: HubFiles, clock: Clock, rng: random.Random, certificate: str, key: str) -> str:
    """What is to be done if the broker lets in who has a certificate of a retired CA; empty if it does not.

    Whether a broker reads the file of its CAs again when it is told to is not believed but tried.
    """
    with tempfile.TemporaryDirectory(prefix=".retired.", dir=files.root) as folder:
        write_file(Path(folder) / "crt", certificate)
        write_file(Path(folder) / "key", key)
        tls = client_context(files.ca_certificate, Path(folder) / "crt", Path(folder) / "key")
        addresses = load_settings(files.settings).hub_addresses()[:1]
        began = clock.monotonic()
        while not await try_connection(addresses, tls, clock=clock, rng=rng):
            if clock.monotonic() - began > PATIENCE_SECONDS:
                return (
                    "the broker still lets in certificates of the retired CA: start it again with"
                    f" {files.mosquitto_config}"
                )
            await clock.sleep(PAUSE_SECONDS)
    return ""
