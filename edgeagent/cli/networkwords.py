"""The words of ``edgeagent network`` and ``edgectl network``; help needs nothing else of either."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is shown, and how."""
    parser.add_argument(
        "what",
        nargs="?",
        default="services",
        choices=("services", "policies", "peers", "drops", "firewall", "trace"),
        metavar="WHAT",
        help="services (the default), policies, peers, drops, firewall or trace",
    )
    parser.add_argument(
        "ends",
        nargs="*",
        metavar="FROM TO:PORT",
        help="of trace: addresses, NAMESPACE/POD, or as TO also NAMESPACE/SERVICE; [ADDRESS]:PORT for IPv6",
    )
    parser.add_argument("--protocol", choices=("TCP", "UDP", "SCTP"), default="TCP", help="of trace")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how to print")
