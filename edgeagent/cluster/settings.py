"""What ``edgehub init`` was told, as the running hub reads it.

May not hold keys: those are files of their own.
"""

from pathlib import Path

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.api.objects.decode import decode_json
from edgeagent.cluster.allocation import ClusterNetwork, check_network
from edgeagent.cluster.ca import NODE_DAYS, VALID_DAYS
from edgeagent.cluster.layout import PUBLIC, read_file, write_file
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import BrokerAddress

ANYWHERE = "0.0.0.0"  # noqa: S104 - compared with, not bound to


class HubSettings(KubernetesStruct, frozen=True):
    """``brokers`` is what nodes and operators are told, ``listen`` where the broker beside the hub is.

    ``network``: the ranges that pods and Services get their addresses of; without it the hub gives none.
    ``enrol_address`` and ``enrol_port``: where that broker lets devices without a certificate in, to enrol;
    port 0 for nowhere. ``node_certificate_days``: how long a node's certificate is valid; it renews at two
    thirds of that.
    """

    cluster: str
    brokers: list[BrokerAddress]
    listen_address: str
    listen_port: int
    network: ClusterNetwork | None = None
    node_certificate_days: int = NODE_DAYS
    enrol_address: str = ""
    enrol_port: int = 0

    def hub_addresses(self) -> list[BrokerAddress]:
        """What the hub itself tries: the broker beside it first, then what everybody uses."""
        beside = "127.0.0.1" if self.listen_address == ANYWHERE else self.listen_address
        beside = "::1" if beside == "::" else beside
        return list(dict.fromkeys([BrokerAddress(host=beside, port=self.listen_port), *self.brokers]))

    @property
    def enrol_broker(self) -> BrokerAddress | None:
        """Where devices reach the listener that they enrol at; None where there is none."""
        return BrokerAddress(host=self.brokers[0].host, port=self.enrol_port) if self.enrol_port else None


def load_settings(path: Path) -> HubSettings:
    """Read ``hub.json``; PermanentError where it is not what ``edgehub init`` wrote."""
    try:
        settings = decode_json(read_file(path), HubSettings)
        if settings.network is not None:
            check_network(settings.network)
        if not 1 <= settings.node_certificate_days <= VALID_DAYS:
            raise InvalidObjectError("nodeCertificateDays", f"must be between 1 and {VALID_DAYS}")
        return settings
    except InvalidObjectError as error:
        raise PermanentError(f"{path} cannot be used: {error}") from None


def write_settings(path: Path, settings: HubSettings, *, replace: bool = False) -> None:
    """Write ``hub.json``; FileExistsError without ``replace``."""
    write_file(path, msgspec.json.format(canonical_json(settings)) + b"\n", PUBLIC, replace=replace)
