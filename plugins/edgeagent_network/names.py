"""The cluster's names as a zone file, and the names of its addresses: a NetworkState in DNS records. Pure.

https://github.com/kubernetes/dns/blob/master/docs/specification.md (1.1.0)
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import is_
from typing import NamedTuple

from edgeagent.api.errors import PermanentError
from edgeagent.api.network import Backend, NetworkPod, NetworkService, NetworkState, Problem
from edgeagent.api.objects.service import HEADLESS, ServicePort

TTL = 5
"""Seconds, as in CoreDNS."""
MAX_NAME = 253
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_WEIGHTS = 100
"""What the weights of one SRV name's records come to."""

Address = IPv4Address | IPv6Address


class Record(NamedTuple):
    """A DNS record. Names, also within ``data``, are absolute and end in a dot."""

    name: str
    kind: str
    data: str

    def line(self) -> str:
        """The line in a zone file (RFC 1035, section 5)."""
        return f"{self.name} {TTL} IN {self.kind} {self.data}\n"


def is_label(text: str) -> bool:
    """Whether it is one label of a host's name (RFC 1123)."""
    return _LABEL.fullmatch(text) is not None


def domain_name(text: str) -> str:
    """A domain name in small letters with the dot at its end.

    PermanentError (reason ``NameInvalid``) for what is none.
    """
    name = text.lower().removesuffix(".")
    if len(name) > MAX_NAME or not all(is_label(label) for label in name.split(".")):
        raise PermanentError(f"{text[:300]!r} is not a domain name", reason="NameInvalid")
    return f"{name}."


class _Service(NamedTuple):
    """What is made of one Service."""

    told: NetworkService
    text: str
    pointers: tuple[Record, ...] = ()
    problem: Problem | None = None

    def or_as(self, old: "_Service | None") -> "_Service":
        """With the very records of before where they are equal, as they are where backends change that have
        no names.
        """
        if old is None or (old.text, old.pointers) != (self.text, self.pointers):
            return self
        return self._replace(text=old.text, pointers=old.pointers)


class Names:
    """The zone of one cluster domain. Of an object that is the very same as before, nothing is worked out.

    ``server`` is where the zone's own server is. PermanentError for a bad ``domain``.

    ``pointers`` are the PTR records of the last ``zone`` by their names, the very same mapping if none of
    them changed: of cluster IPs, and of headless Services' endpoints. They are in no zone of ours, for the
    names around them are others'.
    """

    def __init__(self, domain: str, server: str) -> None:
        self.domain = domain_name(domain)
        address = ip_address(server)
        own = f"ns.dns.{self.domain}"
        head = [
            Record(self.domain, "SOA", f"{own} hostmaster.{self.domain} 1 7200 1800 86400 {TTL}"),
            Record(self.domain, "NS", own),
            _address(own, address),
            Record(f"dns-version.{self.domain}", "TXT", '"1.1.0"'),
        ]
        self._head = "".join(record.line() for record in head)
        self._services: dict[tuple[str, str], _Service] = {}
        self._pods: dict[str, tuple[NetworkPod, str]] = {}
        self._text = ""
        self.pointers: Mapping[str, tuple[Record, ...]] = {}

    def zone(self, state: NetworkState) -> tuple[str, list[Problem]]:
        """The whole zone file, the very same text if nothing changed, and what has no name and why."""
        services = {}
        for told in state.services:
            meta = told.service.metadata
            old = self._services.get((meta.namespace, meta.name))
            same = old is not None and old.told is told
            services[meta.namespace, meta.name] = (
                old if same and old is not None else self._service(told).or_as(old)
            )
        pods = {}
        for pod in (*state.pods, *state.remote_pods):
            known = self._pods.get(pod.uid)
            if known is None or known[0] is not pod:
                text = _text(self._of_pod(pod))
                known = (pod, known[1] if known is not None and known[1] == text else text)
            pods[pod.uid] = known
        before, after = self._services.values(), services.values()
        if not _same((one.pointers for one in before), (one.pointers for one in after)):
            pointers = _by_name(services.values())
            self.pointers = self.pointers if pointers == self.pointers else pointers
        lines = [*(one.text for one in after), *(text for _, text in pods.values())]
        if not _same((*(one.text for one in before), *(text for _, text in self._pods.values())), lines):
            text = self._head + "".join(dict.fromkeys("".join(lines).splitlines(keepends=True)))
            self._text = self._text if text == self._text else text
        self._services, self._pods = services, pods
        return self._text or self._head, [one.problem for one in services.values() if one.problem is not None]

    def _service(self, told: NetworkService) -> _Service:
        try:
            records = dict.fromkeys(self._of_service(told))
            pointers = tuple(record for record in records if record.kind == "PTR")
            return _Service(told, _text(record for record in records if record.kind != "PTR"), pointers)
        except PermanentError as error:
            meta = told.service.metadata
            problem = Problem(
                kind="Service", namespace=meta.namespace, name=meta.name, reason=error.reason,
                message=f"it has no name in DNS: {error}",
            )  # fmt: skip
            return _Service(told, "", problem=problem)

    def _of_service(self, told: NetworkService) -> Iterator[Record]:
        meta, spec = told.service.metadata, told.service.spec
        for part in (meta.name, meta.namespace):
            if not is_label(part):
                raise PermanentError(f"{part[:100]!r} cannot be part of a name", reason="NameInvalid")
        name = f"{meta.name}.{meta.namespace}.svc.{self.domain}"
        if spec.type == "ExternalName":
            yield Record(name, "CNAME", domain_name(spec.external_name))
        elif spec.cluster_ip == HEADLESS:
            for port in spec.ports or [ServicePort(port=0)]:
                yield from _headless(name, port, told)
        else:
            addresses = list(_addresses(spec.cluster_ips or [spec.cluster_ip]))
            for address in addresses:
                yield _address(name, address)
                yield _pointer(address, name)
            for port in spec.ports if addresses else ():
                if is_label(port.name):
                    yield Record(_service_name(port, name), "SRV", f"0 {_WEIGHTS} {port.port} {name}")

    def _of_pod(self, pod: NetworkPod) -> Iterator[Record]:
        if is_label(pod.namespace):
            for address in _addresses(pod.ips):
                name = f"{_dashed(address)}.{pod.namespace}.pod.{self.domain}"
                if len(name) <= MAX_NAME + 1:
                    yield _address(name, address)


def _headless(name: str, port: ServicePort, told: NetworkService) -> Iterator[Record]:
    """The names of the backends themselves. Who is not ready has one only if the Service says so."""
    published = told.service.spec.publish_not_ready_addresses
    targets: dict[tuple[str, int], None] = {}
    for backend in told.backends.get(port.name, ()):
        for address in _addresses([backend.ip]) if backend.ready or published else ():
            own = f"{_hostname(backend, address)}.{name}"
            yield _address(name, address)
            yield _address(own, address)
            yield _pointer(address, own)
            targets[own, backend.port] = None
    if is_label(port.name):
        weight = max(1, _WEIGHTS // max(1, len(targets)))
        for own, number in targets:
            yield Record(_service_name(port, name), "SRV", f"0 {weight} {number} {own}")


def _hostname(backend: Backend, address: Address) -> str:
    """The specification wants a name for every endpoint; without one of its own, CoreDNS takes this."""
    return backend.hostname if is_label(backend.hostname) else _dashed(address)


def _dashed(address: Address) -> str:
    """The address as a label, which may neither begin nor end with a dash: ``::1`` is ``0--1``."""
    text = str(address).replace(".", "-").replace(":", "-")
    return f"{'0' if text[0] == '-' else ''}{text}{'0' if text[-1] == '-' else ''}"


def _service_name(port: ServicePort, name: str) -> str:
    return f"_{port.name}._{port.protocol.lower()}.{name}"


def _address(name: str, address: Address) -> Record:
    return Record(name, "A" if address.version == 4 else "AAAA", str(address))


def _pointer(address: Address, name: str) -> Record:
    return Record(f"{address.reverse_pointer}.", "PTR", name)


def _by_name(services: Iterable[_Service]) -> dict[str, tuple[Record, ...]]:
    found: dict[str, dict[Record, None]] = {}
    for service in services:
        for record in service.pointers:
            found.setdefault(record.name, {})[record] = None
    return {name: tuple(records) for name, records in found.items()}


def _addresses(ips: Iterable[str]) -> Iterator[Address]:
    """Those that are addresses: a Service that has none yet is none the worse."""
    for ip in ips:
        try:
            address = ip_address(ip)
        except ValueError:
            continue
        if not getattr(address, "scope_id", None):
            yield address


def _text(records: Iterable[Record]) -> str:
    found = dict.fromkeys(records)
    for record in found:
        if len(record.name) > MAX_NAME + 1:
            raise PermanentError(f"{record.name} is too long for a name", reason="NameInvalid")
    return "".join(record.line() for record in found)


def _same(old: Iterable[object], new: Iterable[object]) -> bool:
    """Whether these are the very same objects in the same order."""
    before, after = list(old), list(new)
    return len(before) == len(after) and all(map(is_, before, after))
