"""Revoked certificates: kept in the store, listed for the broker, and their live sessions ended.

The hub serves no node that is not a member, from the moment on that the store says so. The broker is told
in three ways: the list of revoked certificates keeps them from connecting, the ACL gives the names that
nobody has any more no right, and a session that is still open is taken over under its client id. Mosquitto
reads the first two when it gets SIGHUP. Whether it did is not believed but tried, with a certificate that was
made to be revoked.

May not decide what is revoked.
"""

import asyncio
import logging
import random
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.brokerfiles import notify_broker, write_rules
from edgeagent.cluster.ca import USER_PREFIX
from edgeagent.cluster.certificates import names_with, serials_of
from edgeagent.cluster.layout import HubFiles, write_file
from edgeagent.cluster.settings import HubSettings
from edgeagent.cluster.store import Store, StoredNode
from edgeagent.wire.certificates import PrivateKey
from edgeagent.wire.join import BrokerAddress
from edgeagent.wire.session import MqttSession, SessionConfig
from edgeagent.wire.tls import client_context

log = logging.getLogger(__name__)

TRIED_AS = "check:revocation"
"""The common name of the certificate that is tried; with its colon it is no node's and no operator's."""
TRIED_SECONDS = 86_400.0
"""So long the certificate that is tried stays listed: another may be trying its own at the same time."""
PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Enforcement:
    """Whether the broker refuses revoked certificates. ``problem``: what is left to do, empty for nothing."""

    refuses: bool
    problem: str = ""


def revoke(store: Store, serial: str, name: str, client_id: str = "", *, now: float) -> None:
    """Revoke a certificate (serial number in hex, common name). Inside a transaction.

    ``Revocations.enforce`` is to follow. ``client_id``: of the MQTT sessions that it was used for, where
    it is known.
    """
    store.execute(
        "INSERT INTO revoked (serial, name, client_id, revoked, enforced) VALUES (?, ?, ?, ?, 0)"
        " ON CONFLICT (serial) DO UPDATE SET enforced = 0",
        (serial, name, client_id, now),
    )


def revoke_node(store: Store, node: StoredNode, *, now: float) -> None:
    """Revoke whatever certificates a node has. Inside a transaction, before it gets new ones."""
    for serial in {node.serial, *serials_of(store, node.name, now)}:
        revoke(store, serial, node.name, node.client_id, now=now)


class Revocations:
    """What the broker is told of the revoked certificates of one hub."""

    def __init__(
        self, files: HubFiles, settings: HubSettings, store: Store, clock: Clock, rng: random.Random
    ) -> None:
        self._files = files
        self._settings = settings
        self._store = store
        self._clock = clock
        self._rng = rng

    def serials(self) -> list[str]:
        """All that were ever revoked."""
        return [row[0] for row in self._store.execute("SELECT serial FROM revoked ORDER BY serial")]

    @property
    def outstanding(self) -> bool:
        """Whether the broker is still to be told of some."""
        return bool(self._store.execute("SELECT 1 FROM revoked WHERE enforced = 0 LIMIT 1"))

    async def enforce(self) -> Enforcement:
        """Have the broker follow. The hub tries again at its next connection what it does not follow now."""
        rows = self._store.execute("SELECT serial, client_id FROM revoked WHERE enforced = 0")
        listed: dict[str, str] = dict(rows)
        with tempfile.TemporaryDirectory(prefix=".revoke.", dir=self._files.root) as folder:
            try:
                tried, unsigned = self._write_lists(Path(folder)), ""
            except PermanentError as error:
                # The CA's key may lie elsewhere. The rest is done without.
                self._write_rules(None)
                tried, unsigned = None, str(error)
            notify_broker(self._files)
            address, reason = await self._reach()
            if address is None:
                return Enforcement(
                    False,
                    f"the broker cannot be reached ({reason}): it refuses the certificate as soon as it runs,"
                    " if it uses the configuration of the hub's directory",
                )
            if tried is not None and not await self._is_refused(address, tried):
                return Enforcement(
                    False,
                    f"the broker still lets revoked certificates in: have it read"
                    f" {self._files.revocation_list} by sending it SIGHUP (`systemctl reload mosquitto`), or"
                    f" start it again with {self._files.mosquitto_config}",
                )
        problem = await self._end_sessions(listed, address)
        if unsigned:
            problem = f"the list of revoked certificates cannot be signed: {unsigned}"
        elif not problem:
            with self._store.transaction():
                for serial in listed:
                    self._store.execute("UPDATE revoked SET enforced = 1 WHERE serial = ?", (serial,))
        return Enforcement(not unsigned, problem)

    def _write_lists(self, folder: Path) -> SessionConfig:
        """Write all, with a new certificate on the list that is to be tried: how to connect with it."""
        authorities = load_authorities(self._files, self._clock)
        key = PrivateKey.generate()
        signed = authorities.sign(key.request(TRIED_AS), TRIED_AS, 1)
        now = self._clock.now()
        # In a transaction, so that of two that write at a time neither leaves the other's out.
        with self._store.transaction():
            self._store.execute(
                "DELETE FROM revoked WHERE name = ? AND revoked < ?", (TRIED_AS, now - TRIED_SECONDS)
            )
            self._store.execute(
                "INSERT INTO revoked (serial, name, client_id, revoked, enforced) VALUES (?, ?, '', ?, 1)",
                (signed.serial, TRIED_AS, now),
            )
            self._write_rules(authorities.revocation_lists(self.serials()))
        write_file(folder / "crt", signed.certificate)
        write_file(folder / "key", key.pem)
        return SessionConfig(
            addresses=[],
            client_id=f"{TRIED_AS}.{secrets.token_hex(8)}",
            tls=client_context(self._files.ca_certificate, folder / "crt", folder / "key"),
        )

    def write(self) -> None:
        """Write what the broker reads, for when it next starts. PermanentError without the CA's key."""
        authorities = load_authorities(self._files, self._clock)
        with self._store.transaction():
            self._write_rules(authorities.revocation_lists(self.serials()))

    def _write_rules(self, revoked: str | None) -> None:
        write_access(self._files, self._settings, self._store, revoked)

    async def _reach(self) -> tuple[BrokerAddress | None, str]:
        """The first address under which the broker lets the hub itself in, or why there is none."""
        reason = ""
        for address in self._settings.hub_addresses():
            reason = await self._connect(address, self._own(f"hub.{secrets.token_hex(8)}"))
            if not reason:
                return address, ""
        return None, reason

    async def _is_refused(self, address: BrokerAddress, tried: SessionConfig) -> bool:
        began = self._clock.monotonic()
        while not await self._connect(address, tried):
            if self._clock.monotonic() - began > PATIENCE_SECONDS:
                return False
            await self._clock.sleep(PAUSE_SECONDS)
        return True

    async def _end_sessions(self, serials: dict[str, str], address: BrokerAddress) -> str:
        """End the sessions of the certificates on the list; why that failed, empty if it did not."""
        for client_id in sorted({one for one in serials.values() if one}):
            if reason := await self._connect(address, self._own(client_id)):
                return f"a live session could not be ended: {reason}"
        return ""

    def _own(self, client_id: str) -> SessionConfig:
        """How to connect as the hub under some client id: the broker then ends whatever session has it."""
        files = self._files
        context = client_context(files.ca_certificate, files.hub_certificate, files.hub_key)
        return SessionConfig(addresses=[], client_id=client_id, tls=context)

    async def _connect(self, address: BrokerAddress, config: SessionConfig) -> str:
        """Connect once and leave; why the broker did not let this client in, empty if it did."""
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def settle(reason: str) -> None:
            if not outcome.done():
                outcome.set_result(reason)

        session = MqttSession(
            SessionConfig(addresses=[address], client_id=config.client_id, tls=config.tls),
            clock=self._clock,
            rng=self._rng,
            on_message=lambda _: None,
            on_connect=lambda _: settle(""),
            on_disconnect=settle,
        )
        task = asyncio.create_task(session.run())
        try:
            return await outcome
        finally:
            task.cancel()
            await asyncio.wait([task])


def write_access(files: HubFiles, settings: HubSettings, store: Store, revoked: str | None = None) -> None:
    """Write who may do what by the names in the store, and the CRL ``revoked`` (PEM; None: as it is).

    In a transaction, so that of two that write at a time neither leaves the other's names out.
    """
    former = [*store.nodes("revoked"), *store.nodes("removed")]
    write_rules(
        files,
        settings,
        revoked=revoked,
        refused=[node.name for node in former],
        operators=names_with(store, USER_PREFIX),
        replace=True,
    )


def end_membership(store: Store, name: str, *, remove: bool, now: float) -> None:
    """From now on ``name`` is no member, and its certificates are revoked. PermanentError for none.

    A revoked node keeps its name from others; a removed one does not.
    """
    with store.transaction():
        node = store.any_node(name)
        if node is None or (node.state == "removed" and not remove):
            raise PermanentError(
                f"there is no node {name[:80]!r}: `edgehub node list` shows them", reason="NotFound"
            )
        store.execute("UPDATE nodes SET state = ? WHERE name = ?", ("removed" if remove else "revoked", name))
        store.execute("DELETE FROM sealed WHERE node = ?", (name,))
        revoke_node(store, node, now=now)
