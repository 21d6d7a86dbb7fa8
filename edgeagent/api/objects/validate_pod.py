"""The rules for pods that types alone cannot state, in Kubernetes' own terms.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
What is a good Pod and yet cannot be run here is named by ``unsupported``, not refused by these rules.
"""

import re

from edgeagent.api.objects.pod import Pod, PodDNSConfig, PodSpec
from edgeagent.api.objects.validate import (
    MAX_INT32,
    require,
    validate_ip,
    validate_label,
    validate_name,
    validate_range,
)
from edgeagent.api.objects.validate_container import validate_containers
from edgeagent.api.objects.validate_security import validate_pod_security_context
from edgeagent.api.objects.validate_volume import validate_volumes

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_LENGTH = 2048
MAX_USER_PRIORITY = 1_000_000_000
SYSTEM_CLASSES = ("system-node-critical", "system-cluster-critical")

_SEARCH = re.compile(r"[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?(\.[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?)*", re.ASCII)


def validate_pod(pod: Pod) -> None:
    """InvalidObjectError at the first rule that ``pod`` breaks."""
    spec = pod.spec
    if spec.node_name:
        validate_label(spec.node_name, "spec.nodeName")
    validate_range(spec.termination_grace_period_seconds, 0, MAX_INT32, "spec.terminationGracePeriodSeconds")
    validate_range(spec.active_deadline_seconds, 1, MAX_INT32, "spec.activeDeadlineSeconds")
    validate_volumes(spec.volumes, "spec.volumes")
    validate_containers(spec)
    if spec.security_context is not None:
        validate_pod_security_context(spec.security_context, "spec.securityContext")
    require(
        not (spec.share_process_namespace and spec.host_pid),
        "spec.shareProcessNamespace",
        "may not be true where hostPID is true",
    )
    _validate_hostname(spec)
    for index, alias in enumerate(spec.host_aliases):
        validate_ip(alias.ip, f"spec.hostAliases[{index}].ip")
        for place, hostname in enumerate(alias.hostnames):
            validate_name(hostname, f"spec.hostAliases[{index}].hostnames[{place}]")
    _validate_dns(spec)
    for index, secret in enumerate(spec.image_pull_secrets):
        if secret.name:  # empty is allowed, and names none
            validate_name(secret.name, f"spec.imagePullSecrets[{index}].name")
    if spec.service_account_name:
        validate_name(spec.service_account_name, "spec.serviceAccountName")
    _validate_priority(spec)


def _validate_hostname(spec: PodSpec) -> None:
    if spec.hostname:
        validate_label(spec.hostname, "spec.hostname")
    if spec.subdomain:
        validate_label(spec.subdomain, "spec.subdomain")
    if spec.hostname_override:
        path = "spec.hostnameOverride"
        validate_name(spec.hostname_override, path)
        require(len(spec.hostname_override) <= 64, path, "must be at most 64 characters")
        require(not spec.host_network, path, "may not be set where hostNetwork is true")
        require(not spec.set_hostname_as_fqdn, path, "may not be set where setHostnameAsFQDN is true")


def _validate_dns(spec: PodSpec) -> None:
    config = spec.dns_config
    if spec.dns_policy == "None":
        require(config is not None, "spec.dnsConfig", "must be set where dnsPolicy is None")
        require(
            config is not None and bool(config.nameservers),
            "spec.dnsConfig.nameservers",
            "at least one is required where dnsPolicy is None",
        )
    if config is not None:
        _validate_dns_config(config, "spec.dnsConfig")


def _validate_dns_config(config: PodDNSConfig, path: str) -> None:
    require(len(config.nameservers) <= MAX_NAMESERVERS, f"{path}.nameservers", f"at most {MAX_NAMESERVERS}")
    for index, address in enumerate(config.nameservers):
        validate_ip(address, f"{path}.nameservers[{index}]")
    require(len(config.searches) <= MAX_SEARCHES, f"{path}.searches", f"at most {MAX_SEARCHES}")
    require(
        len(" ".join(config.searches)) <= MAX_SEARCH_LENGTH,
        f"{path}.searches",
        f"at most {MAX_SEARCH_LENGTH} characters together",
    )
    for index, search in enumerate(config.searches):
        domain = search.removesuffix(".")
        require(
            search == "." or (len(domain) <= 253 and _SEARCH.fullmatch(domain) is not None),
            f"{path}.searches[{index}]",
            f"{search[:80]!r} is not a domain",
        )
    for index, option in enumerate(config.options):
        require(bool(option.name), f"{path}.options[{index}].name", "required field is missing")


def _validate_priority(spec: PodSpec) -> None:
    if spec.priority_class_name:
        validate_name(spec.priority_class_name, "spec.priorityClassName")
    highest = MAX_INT32 if spec.priority_class_name in SYSTEM_CLASSES else MAX_USER_PRIORITY
    validate_range(spec.priority, -MAX_INT32 - 1, highest, "spec.priority")
