"""The level ``baseline``: what opens known ways out of a container is forbidden.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
"""

import json
from collections.abc import Callable, Iterator, Mapping

from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.probe import LifecycleHandler, Probe
from edgeagent.api.objects.security import PodSecurityContext, SELinuxOptions
from edgeagent_security.podsecurity.finding import (
    Finding,
    Placed,
    containers,
    in_user_namespace,
    joined,
    named,
    plural,
    setters,
)

CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
"""Those that may be added, as they are written in Kubernetes: ``CAP_CHOWN`` is none of them."""
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_notsent_lowat",
    }
)
_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_PROFILES = ("RuntimeDefault", "Localhost")


def app_armor_profile(pod: Pod) -> Finding | None:
    """The runtime's AppArmor profile, or one that the node has loaded; the old annotations count as well."""
    shared = pod.spec.security_context or PodSecurityContext()
    values, fields, names = set[str](), list[str](), list[str]()
    own = shared.app_armor_profile
    pod_sets = own is not None and own.type not in _PROFILES
    if own is not None and pod_sets:
        values.add(own.type)
        fields.append("spec.securityContext.appArmorProfile.type")
    for place in containers(pod):
        profile = place.security.app_armor_profile
        if profile is not None and profile.type not in _PROFILES:
            values.add(profile.type)
            names.append(place.container.name)
            fields.append(f"{place.path}.securityContext.appArmorProfile.type")
    annotations = [
        (key, value)
        for key, value in sorted(pod.metadata.annotations.items())
        if key.startswith(_APPARMOR_ANNOTATION)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    ]
    if not fields and not annotations:
        return None
    fields += [f"metadata.annotations[{key}]" for key, _ in annotations]
    bad = sorted(values) + [f"{key}={json.dumps(value)}" for key, value in annotations]
    who = [setters(pod_sets, names)] if pod_sets or names else []
    who += [plural("annotation", "annotations", len(annotations))] if annotations else []
    return Finding(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", len(bad)),
        f"{' and '.join(who)} must not set AppArmor profile type to {joined(bad)}",
        tuple(fields),
    )


def capabilities(pod: Pod) -> Finding | None:
    """No capability may be added beyond the default set."""
    added, fields, names = set[str](), list[str](), list[str]()
    for place in containers(pod):
        own = place.security.capabilities
        bad = [name for name in own.add if name not in CAPABILITIES] if own is not None else []
        if bad:
            added.update(bad)
            names.append(place.container.name)
            fields.append(f"{place.path}.securityContext.capabilities.add")
    if not names:
        return None
    detail = f"{named(names)} must not include {joined(sorted(added))} in securityContext.capabilities.add"
    return Finding("non-default capabilities", detail, tuple(fields))


def host_namespaces(pod: Pod) -> Finding | None:
    """The node's network, processes and IPC may not be shared."""
    spec = pod.spec
    shared = {"hostNetwork": spec.host_network, "hostPID": spec.host_pid, "hostIPC": spec.host_ipc}
    found = [name for name, is_shared in shared.items() if is_shared]
    if not found:
        return None
    detail = ", ".join(f"{name}=true" for name in found)
    return Finding("host namespaces", detail, tuple(f"spec.{name}" for name in found))


def host_path_volumes(pod: Pod) -> Finding | None:
    """No path of the node may be mounted."""
    found = [(index, one.name) for index, one in enumerate(pod.spec.volumes) if one.host_path is not None]
    if not found:
        return None
    names = [name for _, name in found]
    detail = f"{plural('volume', 'volumes', len(names))} {joined(names)}"
    return Finding("hostPath volumes", detail, tuple(f"spec.volumes[{index}].hostPath" for index, _ in found))


def host_ports(pod: Pod) -> Finding | None:
    """No port of the node may be taken."""
    ports, fields, names = set[str](), list[str](), list[str]()
    for place in containers(pod):
        taken = [
            (index, port.host_port) for index, port in enumerate(place.container.ports) if port.host_port
        ]
        if taken:
            names.append(place.container.name)
            ports.update(str(port) for _, port in taken)
            fields += [f"{place.path}.ports[{index}].hostPort" for index, _ in taken]
    if not names:
        return None
    use = plural("uses", "use", len(names))
    which = f"{plural('hostPort', 'hostPorts', len(ports))} {', '.join(sorted(ports))}"
    return Finding("hostPort", f"{named(names)} {use} {which}", tuple(fields))


def host_probes_and_lifecycle(pod: Pod) -> Finding | None:
    """Probes and hooks may ask the pod itself only: no other host is named (since Kubernetes 1.34)."""
    hosts, fields, names = set[str](), list[str](), set[str]()
    for place in containers(pod):
        for path, host in _named_hosts(place):
            hosts.add(host)
            fields.append(path)
            names.add(place.container.name)
    if not names:
        return None
    use = plural("uses", "use", len(names))
    what = plural("probe or lifecycle host", "probe or lifecycle hosts", len(hosts))
    detail = f"{named(sorted(names))} {use} {what} {joined(sorted(hosts))}"
    return Finding("probe or lifecycle host", detail, tuple(fields))


def _named_hosts(place: Placed) -> Iterator[tuple[str, str]]:
    """The field, and the host that it names."""
    container, path = place.container, place.path
    lifecycle = container.lifecycle
    asked: dict[str, Probe | LifecycleHandler | None] = {
        f"{path}.livenessProbe": container.liveness_probe,
        f"{path}.readinessProbe": container.readiness_probe,
        f"{path}.startupProbe": container.startup_probe,
        f"{path}.lifecycle.postStart": lifecycle.post_start if lifecycle is not None else None,
        f"{path}.lifecycle.preStop": lifecycle.pre_stop if lifecycle is not None else None,
    }
    for where, action in asked.items():
        if action is None:
            continue
        if action.http_get is not None and action.http_get.host:
            yield f"{where}.httpGet.host", action.http_get.host
        socket = action.tcp_socket
        # A hook's tcpSocket is refused whatever it holds, so that it is no struct.
        host = socket.get("host") if isinstance(socket, Mapping) else getattr(socket, "host", "")
        if isinstance(host, str) and host:
            yield f"{where}.tcpSocket.host", host


def privileged(pod: Pod) -> Finding | None:
    """No container may be privileged."""
    found = [place for place in containers(pod) if place.security.privileged]
    if not found:
        return None
    detail = f"{named([one.container.name for one in found])} must not set securityContext.privileged=true"
    return Finding("privileged", detail, tuple(f"{one.path}.securityContext.privileged" for one in found))


def masked_proc(pod: Pod) -> Finding | None:
    """``/proc`` stays masked, in every pod: as ``restricted`` has it."""
    found = [place for place in containers(pod) if place.security.proc_mount not in ("", "Default")]
    if not found:
        return None
    values = sorted({place.security.proc_mount for place in found})
    names = named([place.container.name for place in found])
    detail = f"{names} must not set securityContext.procMount to {joined(values)}"
    return Finding("procMount", detail, tuple(f"{place.path}.securityContext.procMount" for place in found))


def proc_mount(pod: Pod) -> Finding | None:
    """``/proc`` stays masked, save in a pod with a user namespace of its own."""
    return None if in_user_namespace(pod) else masked_proc(pod)


def se_linux_options(pod: Pod) -> Finding | None:
    """Only types for containers, and neither a user nor a role."""
    shared = pod.spec.security_context or PodSecurityContext()
    fields = [*_bad_label(shared.se_linux_options, "spec")]
    options = [shared.se_linux_options] if fields else []
    pod_sets, names = bool(fields), list[str]()
    for place in containers(pod):
        bad = [*_bad_label(place.security.se_linux_options, place.path)]
        if bad:
            fields += bad
            names.append(place.container.name)
            options.append(place.security.se_linux_options)
    if not fields:
        return None
    set_ = [one for one in options if one is not None]
    types = sorted({one.type for one in set_} - SELINUX_TYPES)
    data = [f"{plural('type', 'types', len(types))} {joined(types)}"] if types else []
    data += ["user may not be set"] if any(one.user for one in set_) else []
    data += ["role may not be set"] if any(one.role for one in set_) else []
    detail = f"{setters(pod_sets, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
    return Finding("seLinuxOptions", detail, tuple(fields))


def _bad_label(options: SELinuxOptions | None, path: str) -> Iterator[str]:
    if options is None:
        return
    for part, is_bad in (
        ("type", options.type not in SELINUX_TYPES),
        ("user", bool(options.user)),
        ("role", bool(options.role)),
    ):
        if is_bad:
            yield f"{path}.securityContext.seLinuxOptions.{part}"


def seccomp_profile(pod: Pod) -> Finding | None:
    """Where a seccomp profile is set, it is the runtime's or a file of the node's."""
    shared = pod.spec.security_context or PodSecurityContext()
    values, fields, names = set[str](), list[str](), list[str]()
    own = shared.seccomp_profile
    pod_sets = own is not None and own.type not in _PROFILES
    if own is not None and pod_sets:
        values.add(own.type)
        fields.append("spec.securityContext.seccompProfile.type")
    for place in containers(pod):
        profile = place.security.seccomp_profile
        if profile is not None and profile.type not in _PROFILES:
            values.add(profile.type)
            names.append(place.container.name)
            fields.append(f"{place.path}.securityContext.seccompProfile.type")
    if not fields:
        return None
    who = setters(pod_sets, names)
    detail = f"{who} must not set securityContext.seccompProfile.type to {joined(sorted(values))}"
    return Finding("seccompProfile", detail, tuple(fields))


def sysctls(pod: Pod) -> Finding | None:
    """Only kernel parameters that are the pod's own and harm nobody else."""
    shared = pod.spec.security_context or PodSecurityContext()
    found = [(index, one.name) for index, one in enumerate(shared.sysctls) if one.name not in SYSCTLS]
    if not found:
        return None
    fields = tuple(f"spec.securityContext.sysctls[{index}].name" for index, _ in found)
    return Finding("forbidden sysctls", ", ".join(name for _, name in found), fields)


def windows_host_process(pod: Pod) -> Finding | None:
    """No process of a Windows node."""
    shared = pod.spec.security_context or PodSecurityContext()
    pod_sets = _is_host_process(shared.windows_options)
    found = [place for place in containers(pod) if _is_host_process(place.security.windows_options)]
    if not pod_sets and not found:
        return None
    who = setters(pod_sets, [place.container.name for place in found])
    fields = [*(["spec"] if pod_sets else []), *(place.path for place in found)]
    return Finding(
        "hostProcess",
        f"{who} must not set securityContext.windowsOptions.hostProcess=true",
        tuple(f"{field}.securityContext.windowsOptions.hostProcess" for field in fields),
    )


def _is_host_process(options: object) -> bool:
    return isinstance(options, Mapping) and options.get("hostProcess") is True


BASELINE: Mapping[str, Callable[[Pod], Finding | None]] = {
    "appArmorProfile": app_armor_profile,
    "capabilities_baseline": capabilities,
    "hostNamespaces": host_namespaces,
    "hostPathVolumes": host_path_volumes,
    "hostPorts": host_ports,
    "hostProbesAndHostLifecycle": host_probes_and_lifecycle,
    "privileged": privileged,
    "procMount": proc_mount,
    "seLinuxOptions": se_linux_options,
    "seccompProfile_baseline": seccomp_profile,
    "sysctls": sysctls,
    "windowsHostProcess": windows_host_process,
}
"""The controls of the level by the names that Kubernetes gives them, in the order that it asks them in."""
