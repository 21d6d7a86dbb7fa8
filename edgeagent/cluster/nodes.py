"""Adding nodes and rotating the signing key, from a process of its own, whether the hub runs or not.

May not talk to the broker. The running hub finds what was added in the store they share: it is told to
look by SIGHUP where that is allowed, and looks anyway when the new node first connects.
"""

import os
from pathlib import Path

import msgspec

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.validate import validate_label
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.ca import HUB_NAME
from edgeagent.cluster.certificates import record_certificate
from edgeagent.cluster.layout import HubFiles, write_file
from edgeagent.cluster.lock import notify_hub
from edgeagent.cluster.revocation import revoke_node
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.signing import Signing
from edgeagent.cluster.store import Store, StoredNode, new_uid
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.certificates import read_certificate
from edgeagent.wire.clientid import client_id
from edgeagent.wire.join import JoinFile
from edgeagent.wire.keys import SealingKey


def add_node(
    files: HubFiles, name: str, clock: Clock, *, output: Path | None, replace: bool = False
) -> JoinFile:
    """Make ``name`` a member. The join file is written to ``output`` before the node is known to the hub.

    ``replace`` gives a node that exists new keys: for a device that was lost or set up anew. What the node
    had is then revoked, which ``edgeagent.cluster.admin.enforce`` makes the broker follow.
    """
    validate_label(name, "node")
    if name == HUB_NAME:
        raise PermanentError(
            f"a node cannot be called {name!r}: that is the hub's own name", reason="Invalid"
        )
    settings = load_settings(files.settings)
    signing = Signing.load(files.signing)
    store = Store(files.database)
    try:
        known = store.any_node(name)
        if known is not None and known.state != "removed" and not replace:
            was = f"exists since {known.created}" if known.state == "member" else "was revoked"
            raise PermanentError(
                f"node {name} {was}: give its device new keys with --replace, or choose another name",
                reason="AlreadyExists",
            )
        authorities = load_authorities(files, clock)
        issued = authorities.current.node(name, settings.node_certificate_days)
        sealing = SealingKey.generate()
        join = JoinFile(
            cluster=settings.cluster,
            node=name,
            brokers=settings.brokers,
            ca=authorities.bundle,
            certificate=issued.certificate + authorities.links,
            private_key=issued.key,
            trust=signing.anchor,
            sealing_key=sealing.raw,
            enrolment=[settings.enrol_broker] if settings.enrol_broker else [],
        )
        if output is not None:
            _write_join(output, join)
        try:
            with store.transaction():
                if known is not None:
                    revoke_node(store, known, now=clock.now())
                store.put_node(
                    StoredNode(
                        name=name,
                        uid=known.uid if known else new_uid(),
                        created=known.created if known else rfc3339(clock.now()),
                        sealing_key=sealing.public,
                        serial=issued.serial,
                        generation=known.generation if known else 0,
                        client_id=client_id(settings.cluster, name, sealing.raw),
                        public_key=read_certificate(issued.certificate).public_key,
                    )
                )
                record_certificate(store, name, issued.certificate, now=clock.now(), state="current")
        except BaseException:
            if output is not None:
                output.unlink(missing_ok=True)
            raise
    finally:
        store.close()
    notify_hub(files.lock)
    return join


def encode_join(join: JoinFile) -> bytes:
    """A join file's bytes: JSON, for people to look at."""
    return msgspec.json.format(canonical_json(join)) + b"\n"


def _write_join(output: Path, join: JoinFile) -> None:
    try:
        write_file(Path(os.path.abspath(output)), encode_join(join))
    except FileExistsError:
        raise PermanentError(
            f"{output} exists and is left as it is: name another file", reason="AlreadyExists"
        ) from None
    except OSError as error:
        raise PermanentError(f"cannot write {output}: {error.strerror}") from None


def list_nodes(files: HubFiles) -> list[StoredNode]:
    """The members of the cluster by name, and those that were revoked."""
    load_settings(files.settings)
    store = Store(files.database)
    try:
        return sorted([*store.nodes(), *store.nodes("revoked")], key=lambda node: node.name)
    finally:
        store.close()


def rotate_keys(files: HubFiles) -> tuple[int, bool]:
    """A new signing key, vouched for by the old one: its number, and whether a running hub was told."""
    signing = Signing.load(files.signing).rotated()
    signing.save(files.signing, replace=True)
    return signing.serial, notify_hub(files.lock)


def rotate_storage_key(files: HubFiles) -> None:
    """Encrypt what is secret in the database with a new key. A running hub goes on with that one."""
    load_settings(files.settings)
    store = Store(files.database)
    try:
        store.at_rest.rotate()
    finally:
        store.close()
