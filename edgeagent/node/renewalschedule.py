"""When the node's certificate is to be renewed, kept in a file beside it: a start needs no look into it.

Reading a certificate needs ``cryptography``; so that is done when one is written, by whoever has it loaded.
"""

import logging
import random

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.node.identity import IdentityDir
from edgeagent.node.privatefiles import write_private
from edgeagent.wire.canonical import canonical_json, digest

log = logging.getLogger(__name__)

RENEW_AT = 2 / 3
"""Of a certificate's life; kubelets renew between 70 and 90 per cent of it."""
JITTER = 0.1
"""The renewal is somewhere in this part of the life from then on: nodes enrolled together spread out."""


class Schedule(KubernetesStruct, frozen=True):
    """When the certificate with ``of`` (``digest_of``) is to be renewed; seconds since 1970.

    ``renewed``: when it came, by a clock that was plainly wrong, and ``rest`` for how many seconds it is good
    by that same clock.
    """

    of: str
    due: float
    expires: float
    renewed: float = 0.0
    rest: float = 0.0

    def left(self, now: float) -> float:
        """Seconds until it is to be renewed, 0 or less once it is."""
        resting = self.renewed <= now < self.renewed + self.rest
        return self.renewed + self.rest - now if resting else self.due - now


class ScheduleFile:
    """The file. What cannot be kept is planned anew at the next start."""

    def __init__(self, identity: IdentityDir) -> None:
        self._path = identity.path / "renewal.json"

    def read(self, of: str) -> Schedule | None:
        """The schedule of the certificate with that digest, if it is kept."""
        try:
            kept = decode_json(self._path.read_bytes(), Schedule)
        except (OSError, InvalidObjectError):
            return None
        return kept if kept.of == of else None

    def write(self, schedule: Schedule) -> None:
        """Keep it."""
        try:
            write_private(self._path, canonical_json(schedule))
        except OSError as error:
            log.warning("%s could not be kept: %s", self._path, error.strerror)


def digest_of(certificate: bytes, ca: bytes) -> str:
    """What a schedule is of: the certificate and the CAs to believe, as they are in their files."""
    return digest(certificate + b"\0" + ca)


def plan(
    certificate: bytes,
    ca: bytes,
    rng: random.Random,
    now: float,
    *,
    just_renewed: bool = False,
    spread: float = 0.0,
) -> Schedule:
    """A new schedule, from the PEM texts. PermanentError where they cannot be read.

    A certificate that is not of the first of the CAs is renewed within ``spread`` seconds. ``just_renewed``:
    the certificate has come this moment.
    """
    from edgeagent.wire.certificates import read_bundle, read_certificate

    own, of = read_certificate(certificate), digest_of(certificate, ca)
    due = own.due(RENEW_AT + rng.uniform(0, JITTER))
    if just_renewed and not own.not_before <= now < due:
        # Due again already, or not valid yet: the node's clock is wrong, and must not have it renew for ever.
        rest = (own.not_after - own.not_before) / 2
        return Schedule(of=of, due=due, expires=own.not_after, renewed=now, rest=rest)
    if not just_renewed and own.issuer_key != read_bundle(ca)[0].key_id:
        due = min(due, now + rng.uniform(0, spread))
    return Schedule(of=of, due=due, expires=own.not_after)


def plan_first(identity: IdentityDir, rng: random.Random, now: float) -> None:
    """For an identity that was just written. A certificate that cannot be read is the agent's to name."""
    try:
        schedule = plan(identity.certificate.read_bytes(), identity.ca.read_bytes(), rng, now)
    except (PermanentError, OSError) as error:
        log.debug("no renewal is planned: %s", error)
    else:
        ScheduleFile(identity).write(schedule)
