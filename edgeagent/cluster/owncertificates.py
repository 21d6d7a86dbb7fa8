"""The broker's and the hub's own certificates: made anew in time, and after every new CA.

Their keys stay: so each change is one file, written in one step. May not make or retire a CA.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.errors import EdgeAgentError
from edgeagent.cluster.authorities import Authorities
from edgeagent.cluster.brokerfiles import notify_broker
from edgeagent.cluster.layout import PUBLIC, HubFiles, read_file, write_file
from edgeagent.wire.certificates import read_certificate

log = logging.getLogger(__name__)

RENEW_AT = 2 / 3
LOOK_SECONDS = 86_400.0
GAIN_SECONDS = 86_400.0
"""A certificate is not made anew where that would not make it last so much longer."""


def renew_own(files: HubFiles, authorities: Authorities, now: float) -> list[Path]:
    """Make anew what is due of the broker's and the hub's certificates; the files that changed.

    The broker's has all signatures between CAs behind it: a node that slept through rotations follows them.
    """
    changed = []
    for path, chain in (
        (files.broker_certificate, "".join(authorities.chain)),
        (files.hub_certificate, authorities.links),
    ):
        text = read_file(path).decode()
        if _is_due(text, authorities, now) or not text.endswith(chain):
            own = authorities.current.reissue(text)
            write_file(path, own.certificate + chain, PUBLIC, replace=True)
            changed.append(path)
            log.info("%s: certificate %s", path, own.serial)
    return changed


def _is_due(text: str, authorities: Authorities, now: float) -> bool:
    own = read_certificate(text)
    if own.issuer_key != authorities.current.key_id:
        return True
    ends = read_certificate(authorities.current.certificate).not_after
    return now >= own.due(RENEW_AT) and own.not_after + GAIN_SECONDS < ends


class OwnCertificates:
    """Looks every day. ``on_hub_certificate`` is called when the hub's own is another, or the CAs are."""

    def __init__(
        self,
        files: HubFiles,
        authorities: Callable[[], Authorities],
        clock: Clock,
        on_hub_certificate: Callable[[], None],
    ) -> None:
        self._files = files
        self._authorities = authorities
        self._clock = clock
        self._on_hub_certificate = on_hub_certificate
        self._used = self._read()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Make anew what is due; where that cannot be, say what to do."""
        self._renew()
        try:
            found = self._read()
            if found != self._used:  # another program may have made it
                self._on_hub_certificate()
                self._used = found
        except EdgeAgentError as error:
            log.error("the hub goes on with the certificate that it has: %s", error)

    def _read(self) -> tuple[bytes, bytes]:
        return read_file(self._files.hub_certificate), read_file(self._files.ca_certificate)

    def _renew(self) -> None:
        now = self._clock.now()
        try:
            authorities = self._authorities()
            changed = renew_own(self._files, authorities, now)
        except (EdgeAgentError, OSError) as error:
            self._say_due(now, error)
            return
        if self._files.broker_certificate in changed and not notify_broker(self._files):
            log.warning(
                "the broker has a new certificate and could not be told: have it read its files by sending it"
                " SIGHUP (`systemctl reload mosquitto`), or start it again"
            )
        ca = read_certificate(authorities.current.certificate)
        if now >= ca.due(RENEW_AT):
            log.warning("two thirds of the CA's life are over: make the next with `edgehub ca rotate`")

    def _say_due(self, now: float, error: Exception) -> None:
        for path in (self._files.broker_certificate, self._files.hub_certificate):
            try:
                due = now >= read_certificate(read_file(path)).due(RENEW_AT)
            except EdgeAgentError as unreadable:
                log.error("%s cannot be used: %s", path, unreadable)
                continue
            if due:
                log.warning(
                    "%s is to be renewed, but that cannot be done here (%s): put %s in its place and run"
                    " `edgehub ca status`", path, error, self._files.ca_key,
                )  # fmt: skip
