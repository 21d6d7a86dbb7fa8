"""What ``edgehub init`` does: a new cluster in a new directory, complete or not there at all.

May not touch a directory that holds anything.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeagent.api.clock import Clock
from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.validate import validate_label
from edgeagent.cluster.allocation import ClusterNetwork, check_network
from edgeagent.cluster.brokerfiles import write_config, write_rules
from edgeagent.cluster.ca import USER_PREFIX, Authority
from edgeagent.cluster.layout import DIRECTORY, PUBLIC, HubFiles, make_directory, sync_directory, write_file
from edgeagent.cluster.operators import bind, encode_operator, record_operator
from edgeagent.cluster.settings import HubSettings, write_settings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store
from edgeagent.wire.join import BrokerAddress, OperatorFile
from edgeagent.wire.keys import SealingKey

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def init(
    directory: Path,
    cluster: str,
    brokers: Sequence[BrokerAddress],
    *,
    listen: BrokerAddress | None = None,
    enrol_listen: BrokerAddress | None = None,
    operator: str = "admin",
    network: ClusterNetwork | None = None,
    clock: Clock,
) -> HubFiles:
    """Make a cluster: CA, certificates, signing key, store, broker configuration, one operator's file.

    ``listen`` is where the broker beside the hub binds: everywhere, at the first broker's port, if None.
    ``enrol_listen`` is where it lets devices without a certificate in, to enrol: at the same address and the
    port after the first broker's if None. ``network``: the ranges of pods and Services, if the hub is to
    give addresses.
    """
    validate_label(cluster, "cluster")
    validate_label(operator, "operator")
    if not brokers:
        raise InvalidObjectError("brokers", "at least one is required")
    directory = Path(os.path.abspath(directory))
    _check_path(directory)
    listen = listen or BrokerAddress(host="0.0.0.0", port=brokers[0].port)  # noqa: S104 - nodes come from outside
    enrol_listen = enrol_listen or BrokerAddress(host=listen.host, port=brokers[0].port + 1)
    if not 0 < enrol_listen.port < 65536 or enrol_listen.port == listen.port:
        raise InvalidObjectError(
            "enrolListen", f"port {enrol_listen.port} cannot be it: name another with --enrol-listen"
        )
    if network is not None:
        check_network(network)
    settings = HubSettings(
        cluster=cluster,
        brokers=list(brokers),
        listen_address=listen.host,
        listen_port=listen.port,
        network=network,
        enrol_address=enrol_listen.host,
        enrol_port=enrol_listen.port,
    )
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise PermanentError(f"cannot make {directory}: {error.strerror}") from None
    try:
        _fill(HubFiles(work), HubFiles(directory), settings, operator, clock)
        work.chmod(DIRECTORY)
        sync_directory(work)
        os.rename(work, directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise PermanentError(f"cannot make {directory}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(work)
    return HubFiles(directory)


def _check_path(directory: Path) -> None:
    if any(c.isspace() or not c.isprintable() for c in str(directory)):
        raise PermanentError(f"{str(directory)!r}: Mosquitto reads no path with spaces in it, choose another")
    try:
        taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    except OSError as error:
        raise PermanentError(f"cannot read {directory}: {error.strerror}") from None
    if taken:
        raise PermanentError(
            f"{directory} exists and is not empty, and is left as it is: name another directory with --dir,"
            " or `edgehub run` what is there",
            reason="AlreadyExists",
        )


def _fill(files: HubFiles, final: HubFiles, settings: HubSettings, operator: str, clock: Clock) -> None:
    authority, ca = Authority.create(settings.cluster, clock)
    listen = [settings.listen_address] if settings.listen_address not in ("0.0.0.0", "::") else []  # noqa: S104
    server = authority.server([*(broker.host for broker in settings.brokers), *listen, *LOOPBACK])
    hub = authority.hub()
    person = authority.operator(operator)
    write_file(files.ca_certificate, ca.certificate, PUBLIC)
    write_file(files.ca_key, ca.key)
    write_file(files.broker_certificate, server.certificate, PUBLIC)
    write_file(files.broker_key, server.key)
    write_file(files.hub_certificate, hub.certificate, PUBLIC)
    write_file(files.hub_key, hub.key)
    sealing = SealingKey.generate()
    write_file(files.sealing_key, sealing.raw)
    Signing.create(settings.cluster).save(files.signing)
    write_settings(files.settings, settings)
    make_directory(files.mosquitto)
    make_directory(files.mosquitto_data)
    write_config(files, settings, final=final)
    write_rules(files, settings, revoked=authority.revocation_list([]), operators=[USER_PREFIX + operator])
    operator_file = OperatorFile(
        cluster=settings.cluster,
        user=USER_PREFIX + operator,
        brokers=settings.brokers,
        ca=ca.certificate,
        certificate=person.certificate,
        private_key=person.key,
        hub_key=sealing.public,
    )
    write_file(files.operator, encode_operator(operator_file))
    store = Store(files.database, create=True)
    try:
        with store.transaction():
            record_operator(store, operator, person.certificate, clock)
            bind(store, operator, "admin", "", clock)
    finally:
        store.close()
