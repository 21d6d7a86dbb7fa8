"""What a pod is called, and what its ``/etc/hosts`` and ``/etc/resolv.conf`` say. Pure functions.

As kubelet does it: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/ and
https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.pod import HostAlias, Pod, PodDNSConfig, PodDNSConfigOption

CLUSTER_DOMAIN = "cluster.local"
MAX_HOSTNAME = 63
MAX_FQDN = 64
"""Bytes that the kernel takes for a hostname."""
MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
MAX_SEARCH_NAME = 253
MAX_HOST_FILE_BYTES = 65536
"""How much of the node's own ``/etc/hosts`` and ``/etc/resolv.conf`` is looked at."""
STUB_NAMESERVER = "127.0.0.53"
"""Where systemd-resolved answers the node alone."""

_LOCALHOST = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def hostname(pod: Pod, cluster_domain: str = CLUSTER_DOMAIN) -> tuple[str, str]:
    """The hostname that the pod's containers see, and its name in the cluster's DNS, empty for none.

    Both are empty on the node's own network, where the node's hostname is seen. PermanentError (reason
    ``FailedCreatePodSandBox``) where the name is longer than the kernel takes.
    """
    if pod.spec.host_network:
        return "", ""
    leaf, domain = _names(pod, cluster_domain)
    fqdn = f"{leaf}.{domain}" if domain else ""
    wanted = fqdn if fqdn and pod.spec.set_hostname_as_fqdn else leaf
    if len(wanted) > MAX_FQDN:
        raise PermanentError(
            f"the hostname {wanted!r} is too long: {MAX_FQDN} characters is the max, it has {len(wanted)}",
            reason="FailedCreatePodSandBox",
        )
    return wanted, fqdn


def _names(pod: Pod, cluster_domain: str) -> tuple[str, str]:
    """The leaf of the pod's name and its domain, empty for none."""
    spec, meta = pod.spec, pod.metadata
    if spec.hostname_override:
        return spec.hostname_override, ""
    leaf = spec.hostname or meta.name
    if len(leaf) > MAX_HOSTNAME:
        leaf = leaf[:MAX_HOSTNAME].rstrip("-.")
    return leaf, f"{spec.subdomain}.{meta.namespace}.svc.{cluster_domain}" if spec.subdomain else ""


def hosts_file(
    pod: Pod, ips: Sequence[str], host_hosts: str | None, cluster_domain: str = CLUSTER_DOMAIN
) -> str:
    """The content of ``/etc/hosts``; ``host_hosts`` is the node's own, None where it has none."""
    if pod.spec.host_network:
        return (
            "# Kubernetes-managed hosts file (host network).\n"
            + (host_hosts or "")
            + _aliases(pod.spec.host_aliases)
        )
    leaf, domain = _names(pod, cluster_domain)
    names = f"{leaf}.{domain}\t{leaf}" if domain else leaf
    own = "".join(f"{ip}\t{names}\n" for ip in ips)
    return "# Kubernetes-managed hosts file.\n" + _LOCALHOST + own + _aliases(pod.spec.host_aliases)


def _aliases(aliases: Sequence[HostAlias]) -> str:
    if not aliases:
        return ""
    lines = ("\t".join((alias.ip, *alias.hostnames)) + "\n" for alias in aliases)
    return "\n# Entries added by HostAliases.\n" + "".join(lines)


class Resolver(msgspec.Struct, frozen=True):
    """A ``resolv.conf``: servers, search domains, and options (``name`` or ``name:value``)."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        """The file's content, within the limits of Kubernetes."""
        searches = _within_limits(self.searches)
        lines = [f"nameserver {server}" for server in self.nameservers[:MAX_NAMESERVERS]]
        lines += [f"search {' '.join(searches)}"] if searches else []
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in lines)


def parse_resolv_conf(text: str) -> Resolver:
    """The first ``MAX_HOST_FILE_BYTES`` characters of a ``resolv.conf``; what is unknown is passed over.

    Servers add up; of several ``search`` and ``options`` lines the last counts (resolv.conf(5)).
    """
    found = Resolver()
    for line in text[:MAX_HOST_FILE_BYTES].splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                found = replace(found, nameservers=(*found.nameservers, server)[:MAX_NAMESERVERS])
            case ["search", *names]:
                # One name with and without its dot is one name; the dot alone is the root.
                found = replace(found, searches=tuple(name.removesuffix(".") or "." for name in names))
            case ["options", *options]:
                found = replace(found, options=tuple(options))
            case _:
                continue
    return found


def wants_cluster_dns(pod: Pod) -> bool:
    """Whether the pod is to ask the cluster's DNS; ``ClusterFirst`` does not on the node's own network."""
    match pod.spec.dns_policy:
        case "" | "ClusterFirst":
            return not pod.spec.host_network
        case policy:
            return policy == "ClusterFirstWithHostNet"


def misses_cluster_dns(pod: Pod, cluster_dns: Sequence[str]) -> bool:
    """Whether the pod gets the node's DNS for want of a cluster's (Kubernetes' event MissingClusterDNS)."""
    return wants_cluster_dns(pod) and not cluster_dns


def missing_cluster_dns(pod: Pod) -> str:
    """What that event says, in kubelet's words."""
    meta, policy = pod.metadata, pod.spec.dns_policy or "ClusterFirst"
    return (
        f'pod: "{meta.name}_{meta.namespace}({meta.uid})". The node does not have ClusterDNS IP configured'
        f' and cannot create Pod using "{policy}" policy. Falling back to "Default" policy.'
    )


def resolv_conf(
    pod: Pod, host_resolv: str, cluster_dns: Sequence[str], cluster_domain: str = CLUSTER_DOMAIN
) -> str:
    """The content of ``/etc/resolv.conf`` after ``dnsPolicy`` and ``dnsConfig``.

    ``host_resolv`` is the node's own file; ``cluster_dns`` the addresses of the cluster's DNS servers.
    """
    resolver = Resolver() if pod.spec.dns_policy == "None" else parse_resolv_conf(host_resolv)
    if wants_cluster_dns(pod) and cluster_dns:
        services = f"svc.{cluster_domain}"
        domains = (f"{pod.metadata.namespace}.{services}", services, cluster_domain) if cluster_domain else ()
        resolver = Resolver(tuple(cluster_dns), _unique(domains + resolver.searches), ("ndots:5",))
    if (config := pod.spec.dns_config) is not None:
        resolver = _merged(resolver, config)
    return resolver.text()


def _merged(resolver: Resolver, config: PodDNSConfig) -> Resolver:
    return Resolver(
        _unique((*resolver.nameservers, *config.nameservers)),
        _unique((*resolver.searches, *config.searches)),
        tuple(_options(resolver.options, config.options)),
    )


def _options(given: Iterable[str], more: Iterable[PodDNSConfigOption]) -> Iterator[str]:
    merged = dict(option.partition(":")[::2] for option in given)
    merged.update((option.name, option.value) for option in more)
    return (f"{name}:{value}" if value else name for name, value in merged.items())


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _within_limits(searches: Sequence[str]) -> list[str]:
    kept: list[str] = []
    room = MAX_SEARCH_CHARACTERS
    for name in searches[:MAX_SEARCHES]:
        if len(name) > MAX_SEARCH_NAME:  # some resolvers abort on such a name
            continue
        room -= len(name) + (1 if kept else 0)
        if room < 0:
            break
        kept.append(name)
    return kept
