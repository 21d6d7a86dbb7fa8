"""What nodes are told to trust: the one ClusterTrust of the store, kept in step with the hub's files."""

from collections.abc import Callable

import msgspec

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import decode_json, validate
from edgeagent.api.objects.trust import CLUSTER_TRUST_NAME, ClusterTrust, ClusterTrustSpec
from edgeagent.cluster.layout import HubFiles, read_file
from edgeagent.cluster.settings import HubSettings
from edgeagent.cluster.store import Store, StoredObject, new_uid
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import read_bundle

RENEWALS_PER_SECOND = 10.0
"""How many nodes renew in a second, on the average, once there is a new CA."""
LEAST_RENEWAL_SECONDS = 2


def change_trust(store: Store, clock: Clock, change: Callable[[ClusterTrustSpec], ClusterTrustSpec]) -> bool:
    """Make the ClusterTrust what ``change`` makes of it; whether it is another now. Inside a transaction."""
    stored = store.find("ClusterTrust", "", CLUSTER_TRUST_NAME)
    if stored is not None:
        old = decode_json(stored.body, ClusterTrust)
    else:
        meta = ObjectMeta(name=CLUSTER_TRUST_NAME, uid=new_uid(), creation_timestamp=rfc3339(clock.now()))
        old = ClusterTrust(api_version="edgeagent/v1", metadata=meta)
    spec = change(old.spec)
    if stored is not None and spec == old.spec:
        return False
    version = store.next_version()
    meta = msgspec.structs.replace(old.metadata, resource_version=str(version))
    new = msgspec.structs.replace(old, metadata=meta, spec=spec)
    validate(new)
    store.put(
        StoredObject(
            kind="ClusterTrust",
            namespace="",
            name=CLUSTER_TRUST_NAME,
            uid=meta.uid,
            version=version,
            node="",
            deleting="",
            body=canonical_json(new),
        )
    )
    return True


def follow_files(store: Store, files: HubFiles, settings: HubSettings, clock: Clock) -> bool:
    """Have the ClusterTrust say which CAs the files hold, and where the enrolment listener is.

    Whether it is another now. PermanentError where the CA's certificate cannot be read.
    """
    bundle = [one.pem for one in read_bundle(read_file(files.ca_certificate))]
    broker = settings.enrol_broker
    host = f"[{broker.host}]" if broker is not None and ":" in broker.host else broker.host if broker else ""
    enrolment = [f"{host}:{broker.port}"] if broker is not None else []

    def change(spec: ClusterTrustSpec) -> ClusterTrustSpec:
        seconds = spec.renewal_seconds
        if bundle != spec.ca_bundle:
            # Once for each bundle: else whoever adds a node would have every node told anew.
            seconds = max(LEAST_RENEWAL_SECONDS, int(len(store.nodes()) / RENEWALS_PER_SECOND))
        return msgspec.structs.replace(spec, ca_bundle=bundle, enrolment=enrolment, renewal_seconds=seconds)

    with store.transaction():
        return change_trust(store, clock, change)
