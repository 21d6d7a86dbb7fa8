"""Pod networks, services, policies, names and overlays, in the kernel: what kube-proxy, a CNI and CoreDNS do.

Implements ``edgeagent.api.network.Network``. Python works out what should be; nftables, routes and links do
the work, so that nothing here runs while packets flow. What a pod or an endpoint is, and when it is ready, is
the core's and may not come in here. Only ``programs`` runs programs, and only ``table`` talks to nft(8).
"""
