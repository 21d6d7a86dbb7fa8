"""The command line of ``edgeagent``: all commands and their help."""

import argparse

from edgeagent import __version__
from edgeagent.cli import enrolling
from edgeagent.cli.intermixed import IntermixedParser
from edgeagent.cli.local import (
    audit,
    describe,
    events,
    execute,
    get,
    logs,
    network,
    place,
    plugins,
    run,
    status,
    top,
)

_EXAMPLES = """\
examples:
  edgeagent run                                run the agent, for the manifests in /etc/edgeagent/manifests
  edgeagent enroll --token T --cluster plant --broker broker.example.com:8884
                                               become a member of a cluster
  edgeagent enroll --join-file board1.join     the same, without a network
  edgeagent status                             is it connected, what is in force
  edgeagent get pods -A                        what runs on this node
  edgeagent describe pod web                   all about it, and what happened to it
  edgeagent events -w                          what happens, as it happens
  edgeagent logs -f web --tail 20              the end of a pod's log, and what follows
  edgeagent exec -it web -- sh                 a shell in it
  edgeagent top                                what uses the CPU and the memory
  edgeagent network drops                      what network policies dropped lately
  edgeagent audit                              what operators had this node do
  edgeagent plugins list                       what is loaded, and how it fares

All but enrolling with a token need no network.
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; ``command`` of what it parses is what to call."""
    parser = argparse.ArgumentParser(
        prog="edgeagent",
        description="Runs pods from desired state, with or without a network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeagent {__version__}")
    place.add_arguments(parser)
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=IntermixedParser
    )
    run.add_command(commands)
    enrolling.add_command(commands, place.config_of)
    for module in (status, get, describe, events, logs, execute, top, network, audit, plugins):
        module.add_command(commands)
    return parser
