"""``python -m benchmarks NAME [--json]``."""

import argparse
import importlib
import sys

NAMES = (
    "footprint",
    "crypto",
    "idle",
    "apply",
    "boot",
    "exit",
    "scrape",
    "logs",
    "pods",
    "probes",
    "services",
    "policies",
    "dataplane",
    "overlay",
)


def main() -> int:
    """Run one benchmark and print its report; 0 whether or not the budgets held."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    report = importlib.import_module(f"benchmarks.{arguments.name}").run()
    print(report.as_json() if arguments.json else report.as_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
