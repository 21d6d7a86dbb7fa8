"""Operators: the people who may call the hub, their certificates and roles, from a process of its own.

May not talk to the broker. The hub looks in the store at each call, so that a revoked operator is refused at
once; nodes learn of it with their next index.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeagent.api.clock import Clock, rfc3339
from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.decode import validate
from edgeagent.api.objects.rbac import ROLES, ClusterRoleBinding, RoleBinding, RoleName, RoleRef, Subject
from edgeagent.api.objects.trust import ClusterTrustSpec
from edgeagent.api.objects.validate import validate_label
from edgeagent.cluster.authorities import load_authorities
from edgeagent.cluster.brokerfiles import notify_broker
from edgeagent.cluster.certificates import StoredCertificate, current, record_certificate, serials_of
from edgeagent.cluster.layout import HubFiles, read_file, write_file
from edgeagent.cluster.lock import notify_hub
from edgeagent.cluster.operatorgate import bindings, cluster_trust
from edgeagent.cluster.revocation import revoke, write_access
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.store import Store, StoredObject, new_uid
from edgeagent.cluster.trust import change_trust
from edgeagent.wire.authority import USER_PREFIX
from edgeagent.wire.canonical import canonical_json
from edgeagent.wire.join import OperatorFile
from edgeagent.wire.keys import SealingKey

Binding = RoleBinding | ClusterRoleBinding


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: what is bound to the name, as (role, namespace; empty for all), and the certificate."""

    name: str
    roles: tuple[tuple[str, str], ...]
    certificate: StoredCertificate | None
    revoked: bool


def add_operator(
    files: HubFiles,
    name: str,
    role: RoleName,
    clock: Clock,
    *,
    namespaces: Sequence[str] = (),
    output: Path | None = None,
) -> OperatorFile:
    """A new certificate for ``name``, with a role in ``namespaces``, or in all and for the whole cluster.

    A name that exists keeps its roles and its other certificates: this is also how to give it one role more.
    The operator file is written to ``output`` before the certificate counts.
    """
    validate_label(name, "operator")
    for namespace in namespaces:
        validate_label(namespace, "namespace")
    settings = load_settings(files.settings)
    store = Store(files.database)
    try:
        authorities = load_authorities(files, clock)
        issued = authorities.current.operator(name)
        made = OperatorFile(
            cluster=settings.cluster,
            user=USER_PREFIX + name,
            brokers=settings.brokers,
            ca=authorities.bundle,
            certificate=issued.certificate,
            private_key=issued.key,
            hub_key=SealingKey(read_file(files.sealing_key)).public,
        )
        if output is not None:
            write_operator(output, made)
        try:
            with store.transaction():
                record_operator(store, name, issued.certificate, clock)
                for namespace in namespaces or [""]:
                    bind(store, name, role, namespace, clock)
                write_access(files, settings, store)
        except BaseException:
            if output is not None:
                output.unlink(missing_ok=True)
            raise
    finally:
        store.close()
    notify_broker(files)
    notify_hub(files.lock)
    return made


def record_operator(store: Store, name: str, certificate: str, clock: Clock) -> None:
    """Remember an operator's certificate (PEM), to be able to revoke it. Inside a transaction."""
    record_certificate(store, USER_PREFIX + name, certificate, now=clock.now(), state="current")


def bind(store: Store, name: str, role: RoleName, namespace: str, clock: Clock) -> None:
    """Bind a role to an operator, if it is not yet; an empty namespace for the cluster. In a transaction."""
    for one in bindings(store):
        mine = any(subject.kind == "User" and subject.name == name for subject in one.subjects)
        where = one.metadata.namespace if isinstance(one, RoleBinding) else ""
        if mine and where == namespace and ROLES.get(one.role_ref.name) == role:
            return
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    base, number = f"{role}-{name}", 1
    while store.find(kind, namespace, base if number == 1 else f"{base}-{number}") is not None:
        number += 1
    meta = ObjectMeta(
        name=base if number == 1 else f"{base}-{number}",
        namespace=namespace,
        uid=new_uid(),
        creation_timestamp=rfc3339(clock.now()),
    )
    binding: type[RoleBinding] | type[ClusterRoleBinding] = RoleBinding if namespace else ClusterRoleBinding
    _put(
        store,
        binding(
            api_version="rbac.authorization.k8s.io/v1",
            metadata=meta,
            role_ref=RoleRef(kind="ClusterRole", name=role),
            subjects=[Subject(kind="User", name=name)],
        ),
    )


def list_operators(files: HubFiles) -> list[Operator]:
    """All that have a certificate or a role, by name."""
    load_settings(files.settings)
    store = Store(files.database)
    try:
        roles: dict[str, list[tuple[str, str]]] = {}
        for one in bindings(store):
            where = one.metadata.namespace if isinstance(one, RoleBinding) else ""
            for subject in one.subjects:
                if subject.kind == "User":
                    roles.setdefault(subject.name, []).append((one.role_ref.name, where))
        certificates = {
            name.removeprefix(USER_PREFIX): found
            for name, found in current(store).items()
            if name.startswith(USER_PREFIX)
        }
        revoked = _revoked(store)
        return [
            Operator(
                name=name,
                roles=tuple(sorted(roles.get(name, ()))),
                certificate=(found := certificates.get(name)),
                revoked=found is not None and found.serial in revoked,
            )
            for name in sorted(roles.keys() | certificates.keys())
        ]
    finally:
        store.close()


def revoke_operator(files: HubFiles, name: str, clock: Clock) -> tuple[int, bool]:
    """Refuse every certificate that was given to ``name``, and take away its roles.

    How many certificates these were, and whether a running hub was told; the broker is to be made to follow
    (``edgeagent.cluster.admin.enforce``). The last admin of the cluster cannot be revoked: PermanentError, as
    where nobody has that name.
    """
    load_settings(files.settings)
    store = Store(files.database)
    try:
        with store.transaction():
            serials = serials_of(store, USER_PREFIX + name, clock.now())
            mine = [one for one in bindings(store) if any(s.name == name for s in one.subjects)]
            if not serials and not mine:
                raise PermanentError(
                    f"there is no operator {name[:80]!r}: `edgehub operator list` shows them",
                    reason="NotFound",
                )
            others = [one for one in bindings(store) if _gives_admin(one, but=name)]
            if any(_gives_admin(one) for one in mine) and not others:
                raise PermanentError(
                    f"{name} is the only admin of the cluster: add another first, with"
                    " `edgehub operator add NAME --role admin`",
                    reason="Conflict",
                )
            _revoke(store, name, serials, clock)
            for one in mine:
                kept = [subject for subject in one.subjects if subject.name != name]
                if kept:
                    _put(store, msgspec.structs.replace(one, subjects=kept))
                else:
                    store.remove(one.metadata.uid)
    finally:
        store.close()
    return len(serials), notify_hub(files.lock)


def _gives_admin(binding: Binding, but: str = "") -> bool:
    return (
        isinstance(binding, ClusterRoleBinding)
        and ROLES.get(binding.role_ref.name) == "admin"
        and any(subject.kind == "User" and subject.name != but for subject in binding.subjects)
    )


def _revoked(store: Store) -> frozenset[str]:
    trust = cluster_trust(store)
    return frozenset(trust.spec.revoked_operators if trust is not None else ())


def _revoke(store: Store, name: str, serials: Sequence[str], clock: Clock) -> None:
    for serial in serials:
        revoke(store, serial, USER_PREFIX + name, now=clock.now())
    # What has run out is refused anyway, and is not told to every node for ever.
    rows = store.execute("SELECT serial FROM certificates WHERE not_after >= ?", (clock.now(),))
    running = {str(serial) for (serial,) in rows}

    def change(spec: ClusterTrustSpec) -> ClusterTrustSpec:
        kept = {serial for serial in spec.revoked_operators if serial in running} | set(serials)
        return msgspec.structs.replace(spec, revoked_operators=sorted(kept))

    change_trust(store, clock, change)


def _put(store: Store, made: Binding) -> None:
    """Write an object with a new version. Inside a transaction."""
    version = store.next_version()
    meta = msgspec.structs.replace(made.metadata, resource_version=str(version))
    made = msgspec.structs.replace(made, metadata=meta)
    validate(made)
    store.put(
        StoredObject(
            kind=type(made).__name__,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            version=version,
            node="",
            deleting="",
            body=canonical_json(made),
        )
    )


def write_operator(output: Path, made: OperatorFile) -> None:
    """Write an operator file, readable by its owner alone; PermanentError where the file exists."""
    try:
        write_file(Path(os.path.abspath(output)), encode_operator(made))
    except FileExistsError:
        raise PermanentError(
            f"{output} exists and is left as it is: name another file with --output", reason="AlreadyExists"
        ) from None
    except OSError as error:
        raise PermanentError(f"cannot write {output}: {error.strerror}") from None


def encode_operator(made: OperatorFile) -> bytes:
    """An operator file's bytes: JSON, for people to look at."""
    return msgspec.json.format(canonical_json(made)) + b"\n"
