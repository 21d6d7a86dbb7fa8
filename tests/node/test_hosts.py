"""What a pod is called and how it finds others: Kubernetes' rules for hostnames, hosts and resolver files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.api.objects.container import Container
from edgeagent.api.objects.pod import HostAlias, Pod, PodDNSConfig, PodDNSConfigOption, PodSpec
from edgeagent.node.pods.hosts import (
    hostname,
    hosts_file,
    misses_cluster_dns,
    parse_resolv_conf,
    resolv_conf,
)

NODE = "nameserver 192.0.2.1\nsearch corp.example\noptions timeout:2\n"


def make(name: str = "web", **spec: object) -> Pod:
    main = Container(name="main", image="i")
    return Pod(
        api_version="v1",
        metadata=ObjectMeta(name=name, namespace="shop", uid="u1"),
        spec=PodSpec(containers=[main], **spec),  # type: ignore[arg-type]
    )


def lines_of(text: str, keyword: str) -> list[list[str]]:
    return [line.split()[1:] for line in text.splitlines() if line.split()[:1] == [keyword]]


# https://kubernetes.io/docs/concepts/workloads/pods/pod-hostname/


def test_a_pod_is_called_by_its_name() -> None:
    assert hostname(make("web-0")) == ("web-0", "")


def test_hostname_and_subdomain_make_the_fqdn() -> None:
    pod = make(hostname="busybox-1", subdomain="busybox-subdomain")
    fqdn = "busybox-1.busybox-subdomain.shop.svc.cluster-domain.example"
    assert hostname(pod, "cluster-domain.example") == ("busybox-1", fqdn)


def test_set_hostname_as_fqdn() -> None:
    pod = make(subdomain="sub", set_hostname_as_fqdn=True)
    assert hostname(pod) == ("web.sub.shop.svc.cluster.local",) * 2
    assert hostname(make(set_hostname_as_fqdn=True)) == ("web", "")


def test_a_fqdn_of_more_than_64_characters_is_no_hostname() -> None:
    domain = ".sub.shop.svc.cluster.local"
    longest = "a" * (64 - len(domain))
    assert hostname(make(longest, subdomain="sub", set_hostname_as_fqdn=True))[0] == longest + domain
    with pytest.raises(PermanentError, match="64 characters is the max, it has 65") as caught:
        hostname(make(longest + "a", subdomain="sub", set_hostname_as_fqdn=True))
    assert caught.value.reason == "FailedCreatePodSandBox"


@pytest.mark.parametrize(
    ("name", "seen"),
    [("a" * 63, "a" * 63), ("a" * 64, "a" * 63), ("a" * 62 + "-b", "a" * 62), ("a" * 61 + ".-b", "a" * 61)],
)
def test_a_long_name_is_cut_to_63_characters(name: str, seen: str) -> None:
    assert hostname(make(name)) == (seen, "")


def test_hostname_override_goes_before_all_and_has_no_dns_name() -> None:
    pod = make(hostname="a", subdomain="b", hostname_override="db.corp.example")
    assert hostname(pod) == ("db.corp.example", "")
    assert "10.0.0.7\tdb.corp.example\n" in hosts_file(pod, ["10.0.0.7"], None)
    assert hostname(make(hostname_override="a" * 64))[0] == "a" * 64
    with pytest.raises(PermanentError):
        hostname(make(hostname_override="a" * 65))


def test_on_the_nodes_network_a_pod_has_the_nodes_name() -> None:
    assert hostname(make(host_network=True, hostname="a", subdomain="b")) == ("", "")


# https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/


def test_the_documented_hosts_file() -> None:
    aliases = [
        HostAlias(ip="127.0.0.1", hostnames=["foo.local", "bar.local"]),
        HostAlias(ip="10.1.2.3", hostnames=["foo.remote", "bar.remote"]),
    ]
    text = hosts_file(make("hostaliases-pod", host_aliases=aliases), ["10.200.0.5"], "1.1.1.1 node\n")
    assert text == (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\n"
        "fe00::0\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        "10.200.0.5\thostaliases-pod\n"
        "\n"
        "# Entries added by HostAliases.\n"
        "127.0.0.1\tfoo.local\tbar.local\n"
        "10.1.2.3\tfoo.remote\tbar.remote\n"
    )


def test_each_address_has_the_fqdn_and_the_name() -> None:
    text = hosts_file(make(subdomain="sub"), ["10.0.0.7", "fd00::7"], None)
    names = "\tweb.sub.shop.svc.cluster.local\tweb"
    assert text.splitlines()[-2:] == [f"10.0.0.7{names}", f"fd00::7{names}"]


def test_on_the_nodes_network_the_hosts_are_the_nodes() -> None:
    pod = make(host_network=True, host_aliases=[HostAlias(ip="10.1.2.3", hostnames=["foo"])])
    assert hosts_file(pod, ["192.0.2.9"], "127.0.0.1 localhost\n192.0.2.9 node1\n") == (
        "# Kubernetes-managed hosts file (host network).\n"
        "127.0.0.1 localhost\n192.0.2.9 node1\n"
        "\n# Entries added by HostAliases.\n10.1.2.3\tfoo\n"
    )
    assert hosts_file(make(host_network=True), [], None).startswith("# Kubernetes-managed")


# https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/


def test_cluster_first_asks_the_cluster_alone() -> None:
    for policy in ("", "ClusterFirst"):
        text = resolv_conf(make(dns_policy=policy), NODE, ["10.32.0.10"], "cluster.local")
        assert lines_of(text, "nameserver") == [["10.32.0.10"]]
        wanted = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]
        assert lines_of(text, "search") == [wanted]
        assert lines_of(text, "options") == [["ndots:5"]]


def test_default_has_what_the_node_has() -> None:
    assert parse_resolv_conf(resolv_conf(make(dns_policy="Default"), NODE, ["10.32.0.10"])) == (
        parse_resolv_conf(NODE)
    )


@pytest.mark.parametrize(
    ("policy", "server"),
    [("ClusterFirst", "192.0.2.1"), ("", "192.0.2.1"), ("ClusterFirstWithHostNet", "10.32.0.10")],
)
def test_on_the_nodes_network_the_cluster_must_be_asked_for(policy: str, server: str) -> None:
    pod = make(dns_policy=policy, host_network=True)
    assert lines_of(resolv_conf(pod, NODE, ["10.32.0.10"]), "nameserver") == [[server]]
    assert not misses_cluster_dns(pod, ["10.32.0.10"])
    assert misses_cluster_dns(pod, []) == (policy == "ClusterFirstWithHostNet")


def test_without_a_cluster_dns_cluster_first_falls_back_to_the_nodes() -> None:
    assert misses_cluster_dns(make(), [])
    assert not misses_cluster_dns(make(dns_policy="Default"), [])
    assert parse_resolv_conf(resolv_conf(make(), NODE, [])) == parse_resolv_conf(NODE)


def test_the_documented_dns_config() -> None:
    config = PodDNSConfig(
        nameservers=["192.0.2.1"],
        searches=["ns1.svc.cluster-domain.example", "my.dns.search.suffix"],
        options=[PodDNSConfigOption(name="ndots", value="2"), PodDNSConfigOption(name="edns0")],
    )
    text = resolv_conf(make(dns_policy="None", dns_config=config), NODE, ["10.32.0.10"])
    assert text == (
        "nameserver 192.0.2.1\n"
        "search ns1.svc.cluster-domain.example my.dns.search.suffix\n"
        "options ndots:2 edns0\n"
    )


def test_dns_config_is_merged_without_repeats() -> None:
    config = PodDNSConfig(
        nameservers=["10.32.0.10", "192.0.2.53"],
        searches=["corp.example", "lab.example"],
        options=[PodDNSConfigOption(name="ndots", value="1"), PodDNSConfigOption(name="rotate")],
    )
    text = resolv_conf(make(dns_config=config), NODE, ["10.32.0.10"])
    assert lines_of(text, "nameserver") == [["10.32.0.10"], ["192.0.2.53"]]
    assert lines_of(text, "search")[0][3:] == ["corp.example", "lab.example"]
    assert lines_of(text, "options") == [["ndots:1", "rotate"]]


def test_no_more_than_three_nameservers() -> None:
    config = PodDNSConfig(nameservers=[f"192.0.2.{index}" for index in range(9)])
    text = resolv_conf(make(dns_policy="None", dns_config=config), "", [])
    assert lines_of(text, "nameserver") == [["192.0.2.0"], ["192.0.2.1"], ["192.0.2.2"]]


names = st.text("abc.", min_size=1, max_size=300)


@given(st.lists(names, max_size=60), st.lists(names, max_size=60))
def test_no_more_than_32_search_domains_and_2048_characters(node: list[str], own: list[str]) -> None:
    pod = make(dns_config=PodDNSConfig(searches=own))
    text = resolv_conf(pod, f"search {' '.join(node)}\n", ["10.32.0.10"])
    (found,) = lines_of(text, "search")
    assert len(found) <= 32
    assert len(" ".join(found)) <= 2048
    assert all(len(name) <= 253 for name in found)
    assert found[:3] == ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]


def test_a_search_list_of_exactly_the_limit_is_kept() -> None:
    own = [f"{index:02}{'a' * 126}" for index in range(15)] + ["b" * (2048 - 15 * 129)]
    text = resolv_conf(make(dns_policy="None", dns_config=PodDNSConfig(searches=own)), "", [])
    assert lines_of(text, "search") == [own]
    own[-1] += "b"
    text = resolv_conf(make(dns_policy="None", dns_config=PodDNSConfig(searches=own)), "", [])
    assert lines_of(text, "search") == [own[:-1]]


def test_of_several_lines_the_last_search_and_options_count() -> None:
    found = parse_resolv_conf(
        "# nameserver 9.9.9.9\n; comment\nnameserver\nnameserver ::1\n  nameserver\t192.0.2.1 # here\n"
        "search a. b\nsearch corp.example. .\noptions rotate\noptions ndots:2 edns0\ndomain x\n"
    )
    assert found.nameservers == ("::1", "192.0.2.1")
    assert found.searches == ("corp.example", ".")
    assert found.options == ("ndots:2", "edns0")


@given(st.text())
def test_any_file_of_the_node_is_read(text: str) -> None:
    again = resolv_conf(make(dns_policy="Default"), text, [])
    assert resolv_conf(make(dns_policy="Default"), again, []) == again
