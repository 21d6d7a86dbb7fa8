"""Fragments that translate destinations, and which of their UDP flows must be forgotten when they change.

Conntrack keeps sending a UDP flow to the backend it began with. TCP notices that a backend is gone; UDP does
not, and a client that keeps its port would talk to nobody for ever.
"""

from collections.abc import Iterable, Mapping

import msgspec

from edgeagent_network.ruleset import Fragment


class UdpRoute(msgspec.Struct, frozen=True, order=True):
    """From ``address`` (empty: any of the host's own) and ``port`` to a backend.

    Without ``backend`` it stands for every flow to that address and port, translated or not.
    """

    address: str
    port: int
    backend: str = ""
    backend_port: int = 0


class TranslationFragment(Fragment, frozen=True):
    """A fragment, and the UDP routes that are in it."""

    udp: frozenset[UdpRoute] = frozenset()


def removed_udp_endpoints(old: Mapping[str, Fragment], new: Mapping[str, Fragment]) -> list[UdpRoute]:
    """Whose flows conntrack must forget when ``new`` is in force instead of ``old`` (all fragments by key).

    These are the routes that went away, and, without a backend, the addresses and ports that had none
    before: a flow that began then leads nowhere, but its entry lives for as long as the client tries. A
    fragment that is the very same object in both costs an identity check. The same twofold clearing as
    kube-proxy's.
    """
    before: set[UdpRoute] = set()
    after: set[UdpRoute] = set()
    for key, fragment in old.items():
        if isinstance(fragment, TranslationFragment) and fragment.udp and new.get(key) is not fragment:
            before |= fragment.udp
    for key, fragment in new.items():
        if isinstance(fragment, TranslationFragment) and fragment.udp and old.get(key) is not fragment:
            after |= fragment.udp
    begun = _fronts(after) - _fronts(before)
    return sorted((before - after) | begun)


def _fronts(routes: Iterable[UdpRoute]) -> set[UdpRoute]:
    return {UdpRoute(route.address, route.port) for route in routes}


def conntrack_input(routes: Iterable[UdpRoute]) -> str:
    """What ``conntrack --load-file -`` deletes the flows of ``routes`` by; one process for all of them."""
    return "".join(f"{' '.join(_deletion(route))}\n" for route in routes)


def _deletion(route: UdpRoute) -> list[str]:
    words = ["-D", "-p", "udp"]
    if route.address:
        words += ["--orig-dst", route.address]
    words += ["--orig-port-dst", str(route.port)]
    if route.backend:
        words += ["--reply-src", route.backend, "--reply-port-src", str(route.backend_port)]
    return words
