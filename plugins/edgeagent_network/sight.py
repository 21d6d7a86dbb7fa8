"""What is in force, for a person: Services and policies with their counters, and what was dropped lately.

Counters are the kernel's, read with one listing of nft(8) each; everything else is the state that was put in
force last.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgeagent.api.errors import TemporaryError
from edgeagent.api.network import NetworkService, NetworkState
from edgeagent.api.objects.service import HEADLESS
from edgeagent_network.firewall import Standing
from edgeagent_network.firewallrules import COUNTER as FIREWALL_COUNTER
from edgeagent_network.isolation import DROPPED, DROPPED_SECONDS, Key
from edgeagent_network.policyrules import CompiledPolicy, chain_name
from edgeagent_network.programs import Runner
from edgeagent_network.ruleset import TABLE, Ruleset
from edgeagent_network.view import canonical

Row = dict[str, str]

NONE = "<none>"
MAX_ROWS = 10_000
MAX_PODS_NAMED = 10
"""How many of a policy's pods are named in its row."""
_MAX_LISTING_CHARACTERS = 64_000_000
_HITS = ("service_hits4", "service_hits6", "node_port_hits")
_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp"}
"""What nft(8) writes for a protocol where the machine has no /etc/protocols."""


class Sight:
    """Of one state, and the ruleset that is in force for it. ``run`` runs programs in the host's network."""

    def __init__(self, state: NetworkState, ruleset: Ruleset, run: Runner) -> None:
        self._state = state
        self._ruleset = ruleset
        self._run = run

    def services(self) -> list[Row]:
        """A row for each Service: ``endpoints`` are those that are ready, of all; ``hits`` is how many
        connections began at its addresses and node ports.
        """
        counted = {name: self._packets(name) for name in _HITS}
        return [self._service(one, counted) for one in _by_name(self._state.services)[:MAX_ROWS]]

    def policies(
        self, compiled: Mapping[Key, CompiledPolicy], selected: Callable[[Key], list[str]]
    ) -> list[Row]:
        """A row for each policy. ``selected`` names the pods of this node that one selects; ``drops`` are
        the packets that it, maybe with others, had no rule for.
        """
        counted = self._counters()
        rows = []
        for key, policy in sorted(compiled.items())[:MAX_ROWS]:
            pods = selected(key)
            more = len(pods) - MAX_PODS_NAMED
            shown = ",".join(pods[:MAX_PODS_NAMED]) + (f" and {more} more" if more > 0 else "")
            rows.append(
                {
                    "namespace": key[0],
                    "name": key[1],
                    "directions": ",".join(policy.directions),
                    "pods": shown or NONE,
                    "drops": str(sum(counted.get(chain_name(*key, one), 0) for one in policy.directions)),
                }
            )
        return rows

    def firewall(self, standing: Standing) -> list[Row]:
        """A row for the host's firewall; none where there is none, nor is to be. ``drops`` are the packets
        that no rule let in since it came into force; ``note`` says what else is wanted, and why it is not.
        """
        firewall = standing.firewall or standing.wanted
        if firewall is None:
            return []
        state = "accepted" if standing.firewall is not None else "not in force"
        if standing.trial_seconds:
            state = f"on trial, {math.ceil(standing.trial_seconds)}s left"
        return [
            {
                "name": firewall.metadata.name,
                "state": state,
                "allows": ",".join(rule.name for rule in firewall.spec.allow) or NONE,
                "drops": str(self._counters().get(FIREWALL_COUNTER, 0)),
                "note": standing.note or NONE,
            }
        ]

    def drops(self) -> list[Row]:
        """The newest drops, newest first; ``age`` is how long ago the last such packet came."""
        names = {
            ip: f"{pod.namespace}/{pod.name}"
            for pod in (*self._state.remote_pods, *self._state.pods)
            if not pod.host_network
            for ip in canonical(pod.ips)
        }
        found: list[tuple[int, Row]] = []
        for name in DROPPED.values():
            for key, element in self._elements(name):
                source, target, protocol, port = key
                age = max(0, int(element.get("timeout", DROPPED_SECONDS)) - int(element.get("expires", 0)))
                row = {
                    "source": names.get(source, NONE),
                    "source address": source,
                    "target": names.get(target, NONE),
                    "target address": target,
                    "port": f"{port}/{_protocol(protocol).upper()}",
                    "packets": str(_packets_of(element)),
                    "age": f"{age}s",
                }
                found.append((age, row))
        found.sort(key=lambda one: (one[0], *one[1].values()))
        return [row for _, row in found[:MAX_ROWS]]

    def _service(self, source: NetworkService, counted: Mapping[str, Mapping[str, int]]) -> Row:
        meta, spec = source.service.metadata, source.service.spec
        fragment = self._ruleset.get(f"service {meta.namespace}/{meta.name}")
        elements = fragment.elements if fragment is not None else {}
        hits = sum(counted[name].get(key, 0) for name in _HITS for key in elements.get(name, ()))
        ports = [
            f"{port.port}{f':{port.node_port}' if port.node_port else ''}/{port.protocol}"
            for port in spec.ports
        ]
        return {
            "namespace": meta.namespace,
            "name": meta.name,
            "type": spec.type,
            "cluster-ip": ",".join(spec.cluster_ips) or spec.cluster_ip or NONE,
            "ports": ",".join(ports) or NONE,
            "endpoints": _endpoints(source),
            "hits": str(hits),
        }

    # The kernel's counters

    def _packets(self, name: str) -> dict[str, int]:
        """Packets by element, as a fragment writes it."""
        counted = {}
        for key, element in self._elements(name):
            words = [_protocol(word) if place == len(key) - 2 else word for place, word in enumerate(key)]
            counted[" . ".join(words)] = _packets_of(element)
        return counted

    def _elements(self, name: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
        """The parts of each element's key, and what else is known of it."""
        for item in self._list("set", "inet", TABLE, name):
            for one in item.get("set", {}).get("elem", ()):
                # nft(8) writes an element bare where it has neither counter nor timeout.
                element = one.get("elem", {"val": one})
                yield [str(word) for word in element["val"]["concat"]], element

    def _counters(self) -> dict[str, int]:
        listed = self._list("counters", "table", "inet", TABLE)
        return {one["name"]: int(one["packets"]) for item in listed if (one := item.get("counter"))}

    def _list(self, *words: str) -> list[dict[str, Any]]:
        text = self._run(["nft", "-j", "list", *words], check=False)
        if len(text) > _MAX_LISTING_CHARACTERS:
            raise TemporaryError(f"nft lists too much of {' '.join(words)}", reason="NetworkFailed")
        # Without a policy there is no set of drops, and nothing is listed.
        found: list[dict[str, Any]] = json.loads(text)["nftables"] if text else []
        return found


def _endpoints(source: NetworkService) -> str:
    """How many of how many are ready, for each IP family that the Service has where they differ."""
    spec = source.service.spec
    families = {":" in ip for ip in spec.cluster_ips or [spec.cluster_ip] if ip not in ("", HEADLESS)}
    ready = {
        is_six: {
            (one.ip, one.port): one.ready
            for some in source.backends.values()
            for one in some
            if (":" in one.ip) is is_six
        }
        for is_six in sorted(families or {False, True})
    }
    told = {is_six: f"{sum(found.values())}/{len(found)}" for is_six, found in ready.items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return ", ".join(f"{text} IPv{6 if is_six else 4}" for is_six, text in told.items())


def _packets_of(element: Mapping[str, Any]) -> int:
    return int(element.get("counter", {}).get("packets", 0))


def _protocol(word: str) -> str:
    return _PROTOCOLS.get(word, word)


def _by_name(services: list[NetworkService]) -> list[NetworkService]:
    return sorted(services, key=lambda one: (one.service.metadata.namespace, one.service.metadata.name))
