"""What ``edgehub`` does about members, from a process of its own, whether the hub runs or not.

The hub is told by SIGHUP where that is allowed, and finds what was decided in the store in any case. Where
the broker must follow, it is made to from here, so that who asked sees whether it did.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from edgeagent.api.clock import Clock
from edgeagent.api.errors import PermanentError
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.brokerfiles import write_config
from edgeagent.cluster.enrolment import Enrolment, Enrolments
from edgeagent.cluster.layout import PUBLIC, HubFiles, read_file, write_file
from edgeagent.cluster.lock import notify_hub
from edgeagent.cluster.revocation import Enforcement, Revocations, end_membership
from edgeagent.cluster.settings import HubSettings, load_settings, write_settings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store
from edgeagent.cluster.tokens import Token, TokenRules, Tokens
from edgeagent.wire.join import BrokerAddress


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made. ``text`` is what the device needs, and is kept nowhere."""

    token: Token
    text: str
    cluster: str
    broker: BrokerAddress


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about a device that waited; ``enforcement`` where another's place was taken."""

    enrolment: Enrolment
    hub_told: bool
    enforcement: Enforcement | None = None


@contextmanager
def _opened(files: HubFiles) -> Iterator[tuple[HubSettings, Store]]:
    settings = load_settings(files.settings)
    store = Store(files.database)
    try:
        yield settings, store
    finally:
        store.close()


def create_token(files: HubFiles, rules: TokenRules, clock: Clock) -> NewToken:
    """A token to enrol with; PermanentError where the rules cannot be, or there is no listener for it."""
    with _opened(files) as (settings, store):
        if (broker := settings.enrol_broker) is None:
            raise PermanentError(
                "this cluster was made without a listener for enrolment: `edgehub broker configure"
                " --enrol-listen ADDR:PORT` adds one, or add nodes with `edgehub node add`",
                reason="NotConfigured",
            )
        token, text = Tokens(store, clock).create(rules)
    return NewToken(token, text, settings.cluster, broker)


def list_tokens(files: HubFiles, clock: Clock) -> list[Token]:
    """The tokens, those that ended lately too, the oldest first."""
    with _opened(files) as (_, store):
        return Tokens(store, clock).all()


def delete_token(files: HubFiles, token_id: str, clock: Clock) -> Token:
    """End a token; PermanentError where there is none of that id."""
    with _opened(files) as (_, store):
        return Tokens(store, clock).delete(token_id)


def list_enrolments(files: HubFiles, clock: Clock) -> list[Enrolment]:
    """The devices that wait for approval, and those that were decided about lately, the oldest first."""
    with _opened(files) as (settings, store):
        return _enrolments(files, settings, store, clock).all()


async def approve(files: HubFiles, node: str, clock: Clock) -> Decided:
    """Make the device that waits under this name a member; PermanentError where none does or may."""
    with _opened(files) as (settings, store):
        enrolment = _enrolments(files, settings, store, clock).approve(node)
        enforcement = await _enforce(files, settings, store, clock)
    return Decided(enrolment, notify_hub(files.lock), enforcement)


def deny(files: HubFiles, node: str, message: str, clock: Clock) -> Decided:
    """Refuse the device that waits under this name; PermanentError where none does."""
    with _opened(files) as (settings, store):
        enrolment = _enrolments(files, settings, store, clock).deny(node, message)
    return Decided(enrolment, notify_hub(files.lock))


async def end_node(files: HubFiles, name: str, clock: Clock, *, remove: bool) -> Enforcement:
    """Revoke a node, or remove it; PermanentError where there is none. The running hub serves it no more."""
    with _opened(files) as (settings, store):
        end_membership(store, name, remove=remove, now=clock.now())
        enforcement = await _revocations(files, settings, store, clock).enforce()
    notify_hub(files.lock)
    return enforcement


async def enforce(files: HubFiles, clock: Clock) -> Enforcement | None:
    """Have the broker follow what was revoked; None where it does already."""
    with _opened(files) as (settings, store):
        enforcement = await _enforce(files, settings, store, clock)
    notify_hub(files.lock)
    return enforcement


def configure_broker(
    files: HubFiles, clock: Clock, *, enrol_listen: BrokerAddress | None, close: bool
) -> HubSettings:
    """Write the broker's configuration and rules anew; the settings then.

    ``enrol_listen``: where its listener for enrolment is to be, None for where it was; ``close``: nowhere.
    The configuration before is kept with ``.before`` at its name's end.
    """
    with _opened(files) as (was, store):
        settings = was
        if close or enrol_listen is not None:
            settings = msgspec.structs.replace(
                was,
                enrol_address=enrol_listen.host if enrol_listen else "",
                enrol_port=enrol_listen.port if enrol_listen else 0,
            )
        if settings.enrol_port == settings.listen_port:
            raise PermanentError(
                f"port {settings.enrol_port} is the broker's own: name another for enrolment",
                reason="Invalid",
            )
        before = files.mosquitto_config.with_name(f"{files.mosquitto_config.name}.before")
        write_file(before, read_file(files.mosquitto_config), PUBLIC, replace=True)
        _revocations(files, settings, store, clock).write()
        write_config(files, settings, replace=True)
        write_settings(files.settings, settings, replace=True)
    return settings


async def _enforce(files: HubFiles, settings: HubSettings, store: Store, clock: Clock) -> Enforcement | None:
    revocations = _revocations(files, settings, store, clock)
    return await revocations.enforce() if revocations.outstanding else None


def _enrolments(files: HubFiles, settings: HubSettings, store: Store, clock: Clock) -> Enrolments:
    return Enrolments(
        settings,
        store,
        lambda: load_authorities(files, clock),
        lambda: Signing.load(files.signing),
        clock,
    )


def _revocations(files: HubFiles, settings: HubSettings, store: Store, clock: Clock) -> Revocations:
    return Revocations(files, settings, store, clock, random.Random())  # noqa: S311 - spreads retries
