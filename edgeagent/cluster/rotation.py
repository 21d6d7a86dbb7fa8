"""``edgehub ca rotate`` and ``ca status``: a new CA beside the old one, and the old one retired.

From a process of its own, whether the hub runs or not: it shares the files and the store with the hub, and
tells it to look again.
"""

import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.trust import CLUSTER_TRUST_NAME, ClusterTrust
from edgeagent.cluster.authorities import load_authorities, retire_previous, rotate_authority
from edgeagent.cluster.brokerfiles import notify_broker
from edgeagent.cluster.ca import USER_PREFIX, Authority
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
    """One CA that counts; times in seconds since 1970.

    ``nodes`` and ``operators`` are those whose newest certificate is of it, as far as it counts.
    """

    name: str
    issues: bool
    not_before: float
    not_after: float
    nodes: list[str]
    operators: list[str]


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
        nodes, operators = _users(store, clock.now())
    finally:
        store.close()
    every = (authorities.current, *authorities.previous)
    ids = [one.key_id for one in every]
    found = []
    for one in every:
        own = read_certificate(one.certificate)

        def mine(of: Mapping[str, str], ca: Authority = one) -> list[str]:
            # A certificate that was not kept was made before any rotation: it is the oldest CA's.
            return sorted(
                name for name, used in of.items() if (used if used in ids else ids[-1]) == ca.key_id
            )

        issues = one is authorities.current
        found.append(
            CaStatus(own.common_name, issues, own.not_before, own.not_after, mine(nodes), mine(operators))
        )
    return found


def _users(store: Store, now: float) -> tuple[dict[str, str], dict[str, str]]:
    """The id of the CA's key by name, of nodes and of operators; empty where it is not known."""
    used = current(store)
    nodes = {node.name: used[node.name].ca if node.name in used else "" for node in store.nodes()}
    trust = store.find("ClusterTrust", "", CLUSTER_TRUST_NAME)
    revoked = decode_json(trust.body, ClusterTrust).spec.revoked_operators if trust is not None else ()
    operators = {
        name.removeprefix(USER_PREFIX): one.ca
        for name, one in used.items()
        if name.startswith(USER_PREFIX) and one.serial not in revoked and one.not_after > now
    }
    return nodes, operators


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
    late += sorted(f"operator {name}" for one in previous for name in one.operators)
    if late and not force:
        names = ", ".join(late[:10]) + (", …" if len(late) > 10 else "")
        raise PermanentError(
            f"not all have a certificate of the new CA: {names}. Nodes renew by themselves, operators need a"
            " new file (`edgehub operator add`). With --force they are cut off: nodes then come back through"
            " the enrolment listener",
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
