"""The rules for NetworkPolicy, Namespace and label selectors.

https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.policy import (
    LABEL_NAMESPACE_NAME,
    IPBlock,
    Namespace,
    NetworkPolicy,
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
)
from edgeagent.api.objects.selector import LabelSelector
from edgeagent.api.objects.validate import (
    require,
    validate_label,
    validate_port,
    validate_qualified_name,
    validate_range,
)

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_CIDR = re.compile(r"[0-9A-Fa-f:.]{2,45}/[0-9]{1,3}", re.ASCII)


def validate_network_policy(policy: NetworkPolicy) -> None:
    """InvalidObjectError at the first rule that ``policy`` breaks."""
    spec = policy.spec
    validate_selector(spec.pod_selector, "spec.podSelector")
    for index, direction in enumerate(spec.policy_types):
        require(
            direction not in spec.policy_types[:index],
            f"spec.policyTypes[{index}]",
            f"{direction!r} is there twice",
        )
    for index, incoming in enumerate(spec.ingress):
        validate_ingress_rule(incoming, f"spec.ingress[{index}]")
    for index, outgoing in enumerate(spec.egress):
        validate_egress_rule(outgoing, f"spec.egress[{index}]")


def validate_ingress_rule(rule: NetworkPolicyIngressRule, path: str) -> None:
    """One rule of ``spec.ingress``, which is at ``path``."""
    _validate_peers(rule.from_, f"{path}.from")
    _validate_ports(rule.ports, f"{path}.ports")


def validate_egress_rule(rule: NetworkPolicyEgressRule, path: str) -> None:
    """One rule of ``spec.egress``, which is at ``path``."""
    _validate_peers(rule.to, f"{path}.to")
    _validate_ports(rule.ports, f"{path}.ports")


def validate_namespace(namespace: Namespace) -> None:
    """A DNS label for a name, and labels that selectors can name."""
    meta = namespace.metadata
    validate_label(meta.name, "metadata.name")
    validate_labels(meta.labels, "metadata.labels")
    require(
        meta.labels.get(LABEL_NAMESPACE_NAME, meta.name) == meta.name,
        f"metadata.labels.{LABEL_NAMESPACE_NAME}",
        f"must be the namespace's name, {meta.name!r}, or not be set",
    )


def validate_labels(labels: Mapping[str, str], path: str) -> None:
    """Labels of an object, or those of ``matchLabels``."""
    for key, value in labels.items():
        where = f"{path}.{key[:80]}"
        validate_qualified_name(key, where)
        _validate_label_value(value, where)


def validate_selector(selector: LabelSelector, path: str) -> None:
    """A label selector: keys and values of labels, and as many values as the operator takes."""
    validate_labels(selector.match_labels, f"{path}.matchLabels")
    for index, requirement in enumerate(selector.match_expressions):
        where = f"{path}.matchExpressions[{index}]"
        validate_qualified_name(requirement.key, f"{where}.key")
        if requirement.operator in ("In", "NotIn"):
            require(bool(requirement.values), f"{where}.values", f"{requirement.operator} needs a value")
        else:
            require(not requirement.values, f"{where}.values", f"{requirement.operator} takes no values")
        for place, value in enumerate(requirement.values):
            _validate_label_value(value, f"{where}.values[{place}]")


def validate_cidr(text: str, path: str) -> IPNetwork:
    """The range of addresses that ``text`` is; as in Kubernetes, bits of a host in it are passed over."""
    try:
        if _CIDR.fullmatch(text):
            return ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    raise InvalidObjectError(path, f"{text[:80]!r} is not a CIDR such as 192.0.2.0/24 or 2001:db8::/64")


def validate_ip_block(block: IPBlock, path: str) -> None:
    """A CIDR, and in ``except`` smaller ones inside of it."""
    outer = validate_cidr(block.cidr, f"{path}.cidr")
    for index, text in enumerate(block.except_):
        where = f"{path}.except[{index}]"
        inner = validate_cidr(text, where)
        require(
            inner.version == outer.version
            and inner.prefixlen > outer.prefixlen
            and inner.network_address in outer,
            where,
            f"{text!r} must be a part of {block.cidr!r}, and smaller",
        )


def _validate_label_value(value: str, path: str) -> None:
    require(
        _LABEL_VALUE.fullmatch(value) is not None,
        path,
        f"{value[:80]!r} must be empty or letters, digits, '-', '_' or '.', at most 63,"
        " and start and end with a letter or digit",
    )


def _validate_peers(peers: Sequence[NetworkPolicyPeer], path: str) -> None:
    for index, peer in enumerate(peers):
        where = f"{path}[{index}]"
        selectors = (("podSelector", peer.pod_selector), ("namespaceSelector", peer.namespace_selector))
        if peer.ip_block is not None:
            for field, selector in selectors:
                require(selector is None, f"{where}.{field}", "may not be set together with ipBlock")
            validate_ip_block(peer.ip_block, f"{where}.ipBlock")
            continue
        require(
            any(selector is not None for _, selector in selectors),
            where,
            "set podSelector, namespaceSelector, both of these, or ipBlock",
        )
        for field, selector in selectors:
            if selector is not None:
                validate_selector(selector, f"{where}.{field}")


def _validate_ports(ports: Sequence[NetworkPolicyPort], path: str) -> None:
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        if port.port is not None:
            validate_port(port.port, f"{where}.port")
        if port.end_port is None:
            continue
        where = f"{where}.endPort"
        require(isinstance(port.port, int), where, "may be set together with a port number only")
        validate_range(port.end_port, 1, 65535, where)
        require(
            isinstance(port.port, int) and port.end_port >= port.port, where, "must not be less than port"
        )
