"""Services in the kernel: all of them put there at once, one endpoint of one changed, and nothing to do.

In a network namespace of its own. ``nft -f`` of the same ruleset as one script is the baseline of putting
all there; of one change it is ``nft -f`` of the two lines that replace a chain, with every Service in a chain
of its own, as it is mostly done.
"""

import itertools
import os
import time
from collections.abc import Callable
from statistics import median

from benchmarks.report import Report
from benchmarks.scene import progress
from edgeagent.api.network import Backend, NetworkService, NetworkState
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.api.objects.service import (
    LABEL_SERVICE_NAME,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Service,
    ServicePort,
    ServiceSpec,
)
from edgeagent.node.network.state import StateBuilder, Uplinked
from edgeagent_network.base import BASE
from edgeagent_network.config import NetworkConfig
from edgeagent_network.generation import generation_of, netlink_socket
from edgeagent_network.names import Names
from edgeagent_network.ruleset import TABLE
from edgeagent_network.services import Services
from edgeagent_network.table import Table
from tests.support.netlab import Lab
from tests.support.nftscript import whole_table

SIZES = (10, 100, 1000, 5000)
ENDPOINTS = 10
CHANGES = 21
IDLE_CALLS = 20
FULL_RUNS = 3


def run() -> Report:
    """All sizes, one after another."""
    report = Report("services")
    with Lab() as lab:
        for size in SIZES:
            progress(f"{size} services x {ENDPOINTS} endpoints")
            _measure(report, lab, size)
    report.ratio("full_1000_to_nft", "full_1000_ms", "nft_full_1000_ms")
    report.ratio("change_1000_to_nft", "change_1000_ms", "nft_change_1000_ms")
    report.ratios["change_5000_to_change_10"] = (
        report.figures["change_5000_ms"] / report.figures["change_10_ms"]
    )
    report.limit("full_1000_ms", 1000)
    report.limit("change_1000_ms", 20)
    report.limit("change_5000_ms", 20)
    report.notes.append(
        "full: a fresh Services and Table, from NetworkState to the kernel. change: an endpoint taken away "
        "or given back, likewise. cpu: of the agent's side and nft together, which other load on the machine "
        "changes less. told: what comes before a change, from a slice to the state and the names, CPU. "
        "idle: the same state again. The baseline of full is nft alone, its script ready made; "
        "of change, nft where every Service has a chain of its own"
    )
    return report


def _measure(report: Report, lab: Lab, size: int) -> None:
    services = [_service(number, ENDPOINTS) for number in range(size)]
    config = NetworkConfig()
    script = whole_table(
        {"base": BASE, **Services(config).fragments(NetworkState(node="here", services=services))[0]}
    )
    nft = lab.host.nft
    report.baseline[f"nft_full_{size}_ms"] = median(_ms(lambda: nft(script)) for _ in range(FULL_RUNS))

    with lab.inside(lab.host.name, netlink_socket) as netlink:

        def whole() -> tuple[Services, Table]:
            made, table = Services(config), Table(lab.host.run, generation_of(netlink))
            _apply(made, table, services)
            return made, table

        report.figures[f"full_{size}_ms"], report.figures[f"full_{size}_cpu_ms"] = _both(whole, FULL_RUNS)
        made, table = whole()
        changed = [list(services), services]
        changed[0][size // 2] = _service(size // 2, ENDPOINTS - 1)
        turns = itertools.cycle(changed)
        report.figures[f"change_{size}_ms"], report.figures[f"change_{size}_cpu_ms"] = _both(
            lambda: _apply(made, table, next(turns)), CHANGES
        )
        before = time.process_time()
        for _ in range(IDLE_CALLS):
            _apply(made, table, changed[(CHANGES - 1) % 2])
        report.figures[f"idle_{size}_cpu_ms"] = (time.process_time() - before) * 1000 / IDLE_CALLS
    report.figures[f"told_{size}_cpu_ms"] = _told(services)
    nft(_chains(size))
    report.baseline[f"nft_change_{size}_ms"] = median(
        _ms(lambda: nft(f"flush chain inet {TABLE} service-5\n{_rule(5, ENDPOINTS - number % 2)}\n"))  # noqa: B023
        for number in range(CHANGES)
    )


def _told(services: list[NetworkService]) -> float:
    """CPU of all that comes before: a slice that is another, the backends of its Service, and the names."""
    node, names = StateBuilder("here"), Names("cluster.local", "169.254.20.10")
    objects: dict[str, KubernetesObject] = {}
    for number, one in enumerate(services):
        objects[f"service {number}"] = one.service
        objects[f"slice {number}"] = _slice(number, ENDPOINTS)
    names.zone(node.build(objects.values(), [], Uplinked()))
    before = time.process_time()
    for turn in range(CHANGES):
        objects[f"slice {len(services) // 2}"] = _slice(len(services) // 2, ENDPOINTS - (turn + 1) % 2)
        names.zone(node.build(objects.values(), [], Uplinked()))
    return (time.process_time() - before) * 1000 / CHANGES


def _slice(service: int, endpoints: int) -> EndpointSlice:
    return EndpointSlice(
        api_version="discovery.k8s.io/v1",
        metadata=ObjectMeta(
            name=f"slice-{service}",
            namespace="default",
            uid=f"slice-{service}",
            labels={LABEL_SERVICE_NAME: f"service-{service}"},
        ),
        address_type="IPv4",
        endpoints=[
            Endpoint(addresses=[_backend(service, one)], node_name="there") for one in range(endpoints)
        ],
        ports=[EndpointPort(port=8080)],
    )


def _apply(made: Services, table: Table, services: list[NetworkService]) -> None:
    fragments, problems = made.fragments(NetworkState(node="here", services=services))
    refused = table.apply({"base": BASE, **fragments})
    if problems or refused:
        raise RuntimeError(f"not all is in force: {problems[:1]}{refused}")


def _ms(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


def _both(call: Callable[[], object], times: int) -> tuple[float, float]:
    """The median time of ``call`` on the clock, and its mean CPU time, programs that it ran included."""
    before = os.times()
    clock = median(_ms(call) for _ in range(times))
    after = os.times()
    return clock, sum(after[field] - before[field] for field in range(4)) * 1000 / times


def _address(number: int) -> str:
    return f"10.43.{number // 250}.{number % 250 + 1}"


def _backend(service: int, number: int) -> str:
    return f"10.42.{service % 250}.{number + 1}"


def _service(number: int, endpoints: int) -> NetworkService:
    return NetworkService(
        service=Service(
            api_version="v1",
            metadata=ObjectMeta(name=f"service-{number}", namespace="default", uid=f"uid-{number}"),
            spec=ServiceSpec(
                cluster_ip=_address(number), cluster_ips=[_address(number)], ports=[ServicePort(port=80)]
            ),
        ),
        backends={"": [Backend(ip=_backend(number, one), port=8080) for one in range(endpoints)]},
    )


def _rule(service: int, endpoints: int) -> str:
    choices = ", ".join(f"{one} : {_backend(service, one)} . 8080" for one in range(endpoints))
    return (
        f"add rule inet {TABLE} service-{service} meta l4proto tcp dnat ip addr . port to "
        f"numgen random mod {endpoints} map {{ {choices} }}"
    )


def _chains(size: int) -> str:
    """Every Service as a chain of its own."""
    key = "ipv4_addr . inet_proto . inet_service"
    chains = {f"service-{number}": number for number in range(size)}
    lines = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
    lines.append(f"add map inet {TABLE} service_ips4 {{ type {key} : verdict; }}")
    lines += [f"add chain inet {TABLE} {name}" for name in chains]
    lines += [_rule(number, ENDPOINTS) for number in chains.values()]
    elements = ", ".join(f"{_address(number)} . tcp . 80 : goto {name}" for name, number in chains.items())
    lines.append(f"add element inet {TABLE} service_ips4 {{ {elements} }}")
    return "\n".join(lines) + "\n"
