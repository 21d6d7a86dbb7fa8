"""Which pod an address stands for in policies: each address for one pod, text that was checked."""

import ipaddress
from collections.abc import Iterator, Mapping

import msgspec

from edgeagent.api.network import NetworkPod, NetworkState, Problem

Address = tuple[int, str]
"""IP version and canonical text."""


class Claimed(msgspec.Struct, frozen=True):
    """A pod with the addresses that are its own: those that ``valid`` has and no other pod had before."""

    pod: NetworkPod
    local: bool
    valid: tuple[Address, ...]
    addresses: tuple[Address, ...]


def claims(state: NetworkState, known: Mapping[str, Claimed]) -> tuple[dict[str, Claimed], list[Problem]]:
    """By uid, every pod that is not on its host's network, and the addresses that are none.

    Of pods with one address, a pod of this node has it before those of others, and one that is not ending
    before one that is. A pod for which nothing changed that counts is the very same object as in ``known``.
    """
    pods: dict[str, tuple[NetworkPod, bool, tuple[Address, ...]]] = {}
    problems: list[Problem] = []
    for pod, local in _pods(state):
        if not pod.host_network and pod.uid not in pods:
            before = known.get(pod.uid)
            same = before is not None and before.pod.ips == pod.ips
            valid = before.valid if before is not None and same else tuple(_valid(pod.ips))
            pods[pod.uid] = (pod, local, valid)
            if len(valid) != len(pod.ips):
                problems.append(_no_address(pod))
    owners: dict[Address, str] = {}
    for ending in (False, True):
        for uid, (pod, _, valid) in pods.items():
            if pod.terminating is ending:
                for address in valid:
                    owners.setdefault(address, uid)
    return {
        uid: _claimed(known.get(uid), pod, local, valid, tuple(a for a in valid if owners[a] == uid))
        for uid, (pod, local, valid) in pods.items()
    }, problems


def _pods(state: NetworkState) -> Iterator[tuple[NetworkPod, bool]]:
    for pod in state.pods:
        yield pod, True
    for pod in state.remote_pods:
        yield pod, False


def _valid(texts: list[str]) -> Iterator[Address]:
    for text in dict.fromkeys(texts):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not getattr(address, "scope_id", None):
            yield address.version, str(address)


def _no_address(pod: NetworkPod) -> Problem:
    return Problem(
        kind="Pod",
        namespace=pod.namespace,
        name=pod.name,
        reason="InvalidAddress",
        message=f"one of its addresses is none, or is there twice: {', '.join(pod.ips)[:200]}",
    )


def _claimed(
    before: Claimed | None, pod: NetworkPod, local: bool, valid: tuple[Address, ...], own: tuple[Address, ...]
) -> Claimed:
    if before is not None and before.local is local and before.addresses == own and before.valid == valid:
        old = before.pod
        if old is pod or (old.namespace, old.labels, old.named_ports) == (
            pod.namespace, pod.labels, pod.named_ports,
        ):  # fmt: skip
            return before
    return Claimed(pod, local, valid, own)
