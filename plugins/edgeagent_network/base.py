"""The frame of the table: the base chains, the order of what is asked in them, and the sets all share.

Each part of the plugin fills chains of its own that are named here, and adds elements to these sets. Where
there are two, one is for IPv4 and one for IPv6.

The way of a packet: ``services`` (and before them nothing) rewrites its destination in prerouting, or in
output for the host's own; ``forward`` then sees pods' real addresses and refuses what services cannot serve;
``egress`` and ``ingress`` ask the policies; postrouting translates the source where ``MASQUERADE`` says so or
it leaves the cluster.
"""

from edgeagent_network.ruleset import Chain, Fragment

MASQUERADE = "0x4000"
"""The bit of a packet's mark that asks for the host's own source address."""
SET_MASQUERADE = f"meta mark set meta mark or {MASQUERADE}"
TRANSPORTS = "meta l4proto { tcp, udp, sctp }"
"""What has ports; nft(8) wants to be told before it translates one."""
_PORT = "meta l4proto . th dport"

_NOT_FOR_POLICIES = (
    "ct state established,related accept",
    "ip saddr . ip daddr @hairpin4 accept",
    "ip6 saddr . ip6 daddr @hairpin6 accept",
)
"""Replies to what was allowed, and a pod that reaches itself through a service."""

BASE = Fragment(
    sets={
        # Filled by the pods of this node, their ranges, and the ranges of the cluster.
        "local_pods4": "type ipv4_addr;",
        "local_pods6": "type ipv6_addr;",
        # No two ranges overlap. (With auto-merge, one that was merged with another could not be removed.)
        "cluster4": "type ipv4_addr; flags interval;",
        "cluster6": "type ipv6_addr; flags interval;",
        # ``ADDRESS . ADDRESS`` of each local pod: a pod that reaches itself through a service.
        "hairpin4": "type ipv4_addr . ipv4_addr;",
        "hairpin6": "type ipv6_addr . ipv6_addr;",
        # How often new connections came to a service's port. (A counter in ``service_ips4`` would begin
        # anew whenever the number of backends changes; named counters make nft(8) slow by their number.)
        "service_hits4": "type ipv4_addr . inet_proto . inet_service; counter;",
        "service_hits6": "type ipv6_addr . inet_proto . inet_service; counter;",
        "node_port_hits": "type inet_proto . inet_service; counter;",
    },
    maps={
        # ``CLUSTER-IP . PROTOCOL . PORT : goto service-…`` (filled by services)
        "service_ips4": "type ipv4_addr . inet_proto . inet_service : verdict;",
        "service_ips6": "type ipv6_addr . inet_proto . inet_service : verdict;",
        # ``PROTOCOL . PORT : goto node-port-…`` for packets to one of the host's own addresses
        "node_ports4": "type inet_proto . inet_service : verdict;",
        "node_ports6": "type inet_proto . inet_service : verdict;",
        # ``PROTOCOL . PORT : ADDRESS . PORT`` of pods' hostPorts, and with the ``hostIP`` before them
        "host_ports4": "type inet_proto . inet_service : ipv4_addr . inet_service;",
        "host_ports6": "type inet_proto . inet_service : ipv6_addr . inet_service;",
        "host_ip_ports4": "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;",
        "host_ip_ports6": "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;",
        # What has no endpoint: ``… : goto refuse`` or ``… : drop``
        "no_endpoints4": "type ipv4_addr . inet_proto . inet_service : verdict;",
        "no_endpoints6": "type ipv6_addr . inet_proto . inet_service : verdict;",
        "no_endpoint_node_ports4": "type inet_proto . inet_service : verdict;",
        "no_endpoint_node_ports6": "type inet_proto . inet_service : verdict;",
        # ``ADDRESS : goto isolation-ingress-…`` of the local pods that a policy isolates (filled by policies)
        "ingress4": "type ipv4_addr : verdict;",
        "ingress6": "type ipv6_addr : verdict;",
        "egress4": "type ipv4_addr : verdict;",
        "egress6": "type ipv6_addr : verdict;",
    },
    chains={
        "prerouting": Chain(("jump services",), "type nat hook prerouting priority dstnat; policy accept;"),
        "output": Chain(("jump services",), "type nat hook output priority -100; policy accept;"),
        "services": Chain(
            (
                # A packet from 127.0.0.1 cannot leave the host, so a port there stays the host's own.
                "ip daddr 127.0.0.0/8 return",
                "ip6 daddr ::1 return",
                "ip daddr . meta l4proto . th dport @service_hits4",
                "ip6 daddr . meta l4proto . th dport @service_hits6",
                "ip daddr . meta l4proto . th dport vmap @service_ips4",
                "ip6 daddr . meta l4proto . th dport vmap @service_ips6",
                "fib daddr type != local return",
                "meta l4proto . th dport @node_port_hits",
                "meta nfproto ipv4 meta l4proto . th dport vmap @node_ports4",
                "meta nfproto ipv6 meta l4proto . th dport vmap @node_ports6",
                f"{TRANSPORTS} dnat ip addr . port to ip daddr . {_PORT} map @host_ip_ports4",
                f"{TRANSPORTS} dnat ip6 addr . port to ip6 daddr . {_PORT} map @host_ip_ports6",
                f"{TRANSPORTS} dnat ip addr . port to {_PORT} map @host_ports4",
                f"{TRANSPORTS} dnat ip6 addr . port to {_PORT} map @host_ports6",
            )
        ),
        "postrouting": Chain(
            (
                # What the host serves itself sees the address that the host spoke from: to another of its own
                # a server of UDP may answer from that very one.
                f'meta mark and {MASQUERADE} != 0 oifname != "lo" masquerade',
                "ip saddr . ip daddr @hairpin4 masquerade",
                "ip6 saddr . ip6 daddr @hairpin6 masquerade",
                "ip saddr @local_pods4 ip daddr != @cluster4 ip daddr != 224.0.0.0/4 masquerade",
                "ip6 saddr @local_pods6 ip6 daddr != @cluster6 ip6 daddr != ff00::/8 masquerade",
            ),
            "type nat hook postrouting priority srcnat; policy accept;",
        ),
        "forward": Chain(
            (
                "ct state established,related accept",
                # Packets of a pod's connection that conntrack cannot place (behind the window, say) are not
                # translated: who got one would reset a connection that is well.
                "ct state invalid ip saddr @local_pods4 drop",
                "ct state invalid ip daddr @local_pods4 drop",
                "ct state invalid ip6 saddr @local_pods6 drop",
                "ct state invalid ip6 daddr @local_pods6 drop",
                "jump no_endpoints",
            ),
            "type filter hook forward priority filter; policy accept;",
        ),
        "refuse_output": Chain(
            ("jump no_endpoints",), "type filter hook output priority filter; policy accept;"
        ),
        "refuse_input": Chain(
            ("jump no_endpoints",), "type filter hook input priority filter; policy accept;"
        ),
        "no_endpoints": Chain(
            (
                "ct state != new return",
                "ip daddr 127.0.0.0/8 return",
                "ip6 daddr ::1 return",
                "ip daddr . meta l4proto . th dport vmap @no_endpoints4",
                "ip6 daddr . meta l4proto . th dport vmap @no_endpoints6",
                "fib daddr type != local return",
                "meta nfproto ipv4 meta l4proto . th dport vmap @no_endpoint_node_ports4",
                "meta nfproto ipv6 meta l4proto . th dport vmap @no_endpoint_node_ports6",
            )
        ),
        # The kernel sends an address a few ICMP errors a second at most, and a client of TCP would wait; a
        # reset has no limit.
        "refuse": Chain(("meta l4proto tcp reject with tcp reset", "reject")),
        # Two base chains, for a verdict of accept ends its own base chain alone: what egress policies allow,
        # ingress policies are asked about next.
        "egress": Chain(
            (*_NOT_FOR_POLICIES, "ip saddr vmap @egress4", "ip6 saddr vmap @egress6"),
            "type filter hook forward priority filter + 1; policy accept;",
        ),
        "ingress": Chain(
            (*_NOT_FOR_POLICIES, "ip daddr vmap @ingress4", "ip6 daddr vmap @ingress6"),
            "type filter hook forward priority filter + 2; policy accept;",
        ),
    },
)
"""The fragment that is always there."""
