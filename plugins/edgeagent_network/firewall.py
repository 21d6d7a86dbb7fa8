"""The firewall of the host itself, with a dead man's switch: a change that costs the broker is taken back.

A changed HostFirewall comes into force while the broker is reached, and is on trial for ``confirmSeconds``.
If the broker is reached at their end, it is accepted; else the one that was accepted before is in force
again, and that version is not tried again until it changes. What is accepted is kept in a file, and what is
on trial is only named there: an agent that starts begins with what was accepted, and with the trial anew.

A change that comes while the broker is not reached waits, for nobody could tell what it costs. A node that
has no broker has nothing to lose, and there a change counts as accepted at once; so does no firewall.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edgeagent.api.errors import InvalidObjectError, TemporaryError
from edgeagent.api.network import NetworkState, Problem
from edgeagent.api.objects.network import HostFirewall
from edgeagent.api.objects.service import Protocol as Transport
from edgeagent.api.objects.validate import validate_name
from edgeagent.api.objects.validate_network import validate_host_firewall
from edgeagent_network.config import NetworkConfig
from edgeagent_network.firewallrules import Overlaid, admitting, firewall_fragment, overlaid
from edgeagent_network.ruleset import Fragment
from edgeagent_network.wholefile import read_whole, write_whole

MAX_TRIALS = 3
"""How often a version is tried again after the agent ended during its trial, the first time included."""
RETRY_SECONDS = 30.0
MAX_FILE_BYTES = 4_000_000


class FirewallReport(msgspec.Struct, frozen=True):
    """``retry_after`` seconds: when the trial ends; 0 for never. ``on_trial``: whether there is one."""

    fragments: Mapping[str, Fragment] = msgspec.field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    retry_after: float = 0.0
    on_trial: bool = False


class Standing(msgspec.Struct, frozen=True):
    """What was made of the firewall that is ``wanted``: ``firewall`` is what is in force, None where nothing.

    ``trial_seconds`` are left of its trial, 0 where it is on none; ``note`` is what is wrong.
    """

    wanted: HostFirewall | None = None
    firewall: HostFirewall | None = None
    trial_seconds: float = 0.0
    note: str = ""


class _File(msgspec.Struct):
    """``trial`` and ``refused`` are versions; ``trials`` is how often that trial has begun."""

    accepted: HostFirewall | None = None
    trial: str = ""
    trials: int = 0
    refused: str = ""
    why: str = ""


class Firewall:
    """One for the node; ``file`` is where it keeps what was accepted. ``monotonic`` counts seconds."""

    def __init__(
        self, config: NetworkConfig, file: Path, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._file = file
        self._monotonic = monotonic
        kept = read_whole(file, _File, max_bytes=MAX_FILE_BYTES, check=_check)
        self._set_aside = kept.set_aside
        self._held = kept.value or _File()
        self._unsaved = False
        self._deadline: float | None = None  # of the trial that this process began
        self._in_force: HostFirewall | None = None
        self._standing = Standing()
        self._made: tuple[HostFirewall, Overlaid, Fragment] | None = None

    def reconcile(self, state: NetworkState) -> FirewallReport:
        """What is to be in force now; raises no error. Call it again after ``retry_after``."""
        problems: list[Problem] = []
        before = msgspec.structs.replace(self._held)
        self._in_force = self._decide(state, problems)
        if self._held != before or self._unsaved:
            try:
                self._save()
            except TemporaryError as error:
                self._unsaved = True
                if self._deadline is not None:
                    # A trial that no file knows of could not be told from what was accepted.
                    self._deadline = None
                    self._held = before
                    self._in_force = before.accepted
                problems.append(_problem(state.firewall, state.node, error.reason, str(error)))
        if self._set_aside is not None:
            said = f"{self._set_aside} was unreadable: which firewall was accepted before is not known"
            problems.append(_problem(state.firewall, state.node, "FirewallUnreadable", said))
        retry = 0.0 if self._deadline is None else max(0.001, self._deadline - self._monotonic())
        note = "; ".join(f"{one.reason}: {one.message}" for one in problems)
        self._standing = Standing(state.firewall, self._in_force, note=note)
        return FirewallReport(
            self._fragments(state),
            tuple(problems),
            retry or (RETRY_SECONDS if self._unsaved else 0.0),
            on_trial=self._deadline is not None,
        )

    def standing(self) -> Standing:
        """What the last ``reconcile`` made of it."""
        if self._deadline is None or self._in_force is None:
            return self._standing
        return replace(self._standing, trial_seconds=max(0.001, self._deadline - self._monotonic()))

    def admits(self, source: str, port: int, protocol: Transport) -> tuple[bool, str]:
        """Whether a new connection from elsewhere may come in, and by which rule, for a person."""
        firewall = self._in_force
        if firewall is None:
            return True, "the host has no firewall of ours"
        name = firewall.metadata.name
        for rule in admitting(firewall, source, port, protocol):
            through = f", if it comes in by {' or '.join(rule.interfaces)}" if rule.interfaces else ""
            return True, f"HostFirewall {name} lets it in by its rule {rule.name}{through}"
        return False, f"no rule of HostFirewall {name} lets it in"

    def _decide(self, state: NetworkState, problems: list[Problem]) -> HostFirewall | None:
        held, wanted = self._held, state.firewall
        if wanted is None:
            self._deadline = None
            self._held = _File()
            return None
        try:
            validate_name(wanted.metadata.name, "metadata.name")
            validate_host_firewall(wanted)
        except InvalidObjectError as error:
            self._deadline = None
            said = f"not in force{', but the one before it is' if held.accepted else ''}: {error}"
            problems.append(_problem(wanted, state.node, "InvalidObject", said))
            return held.accepted
        version = _version(wanted)
        if held.refused and held.refused != version:
            held.refused = held.why = ""
        if held.accepted is not None and _version(held.accepted) == version:
            self._end_trial()
            return held.accepted
        if held.refused == version:
            problems.append(_problem(wanted, state.node, "RolledBack", held.why))
            return held.accepted
        if not state.broker_addresses:
            self._accept(wanted)
            return wanted
        if self._deadline is None or held.trial != version:
            return self._begin(wanted, version, state, problems)
        if self._monotonic() < self._deadline:
            return wanted
        if state.connected:
            self._accept(wanted)
            return wanted
        said = f"the broker was not reached {wanted.spec.confirm_seconds} s after it came into force"
        return self._refuse(wanted, version, state, problems, said)

    def _begin(
        self, wanted: HostFirewall, version: str, state: NetworkState, problems: list[Problem]
    ) -> HostFirewall | None:
        held = self._held
        self._deadline = None
        if not state.connected:
            said = "it comes into force when the broker is reached: only then can be told if it costs that"
            problems.append(_problem(wanted, state.node, "Pending", said))
            return held.accepted
        held.trials = held.trials + 1 if held.trial == version else 1
        held.trial = version
        if held.trials > MAX_TRIALS:
            said = f"the agent ended {MAX_TRIALS} times while it was on trial"
            return self._refuse(wanted, version, state, problems, said)
        self._deadline = self._monotonic() + wanted.spec.confirm_seconds
        return wanted

    def _accept(self, wanted: HostFirewall) -> None:
        self._held.accepted = wanted
        self._end_trial()

    def _refuse(
        self, wanted: HostFirewall, version: str, state: NetworkState, problems: list[Problem], said: str
    ) -> HostFirewall | None:
        held = self._held
        self._end_trial()
        held.refused = version
        before = f"HostFirewall {held.accepted.metadata.name} as it was" if held.accepted else "no firewall"
        held.why = f"{said}: {before} is in force; change it to have it tried again"
        problems.append(_problem(wanted, state.node, "RolledBack", held.why))
        return held.accepted

    def _end_trial(self) -> None:
        self._deadline = None
        self._held.trial, self._held.trials = "", 0

    def _fragments(self, state: NetworkState) -> dict[str, Fragment]:
        firewall = self._in_force
        if firewall is None:
            self._made = None
            return {}
        overlay = overlaid(state, self._config)
        if self._made is None or self._made[0] is not firewall or self._made[1] != overlay:
            made = firewall_fragment(firewall, overlay)
            if self._made is not None and self._made[2] == made:
                made = self._made[2]
            self._made = (firewall, overlay, made)
        return {f"firewall {firewall.metadata.name}": self._made[2]}

    def _save(self) -> None:
        write_whole(self._file, msgspec.json.encode(self._held), "the firewall cannot be kept")
        self._unsaved = False


def _check(held: _File) -> None:
    """InvalidObjectError for what cannot have been written here."""
    if held.accepted is not None:
        validate_name(held.accepted.metadata.name, "metadata.name")
        validate_host_firewall(held.accepted)


def _version(firewall: HostFirewall) -> str:
    """Another one for each object and each content of it."""
    content = msgspec.json.encode([firewall.metadata.name, firewall.spec], order="sorted")
    return f"{firewall.metadata.uid} {hashlib.sha256(content).hexdigest()}"


def _problem(firewall: HostFirewall | None, node: str, reason: str, message: str) -> Problem:
    if firewall is None:
        return Problem(kind="NodeNetwork", namespace="", name=node, reason=reason, message=message)
    name = firewall.metadata.name
    return Problem(kind="HostFirewall", namespace="", name=name, reason=reason, message=message[:1000])
