"""``edgectl version``."""

import argparse
import sys

import edgeagent
from edgeagent.cli.output import format_json, format_yaml


def run(options: argparse.Namespace) -> int:
    """Print edgectl's version."""
    if options.output == "json":
        sys.stdout.write(format_json({"clientVersion": {"gitVersion": f"v{edgeagent.__version__}"}}))
    elif options.output == "yaml":
        sys.stdout.write(format_yaml({"clientVersion": {"gitVersion": f"v{edgeagent.__version__}"}}))
    else:
        print(f"Client Version: v{edgeagent.__version__}")
    return 0
