"""An audit log for a person: what ``edgeagent audit`` and ``edgectl audit`` share.

May not know where the rows come from.
"""

import sys

from edgeagent.cli.output import PADDING, cell, escape, format_json
from edgeagent.wire.audit import AuditResult

HEADINGS = ("TIME", "OPERATOR", "METHOD", "TARGET", "VERDICT", "REASON")


def show(result: AuditResult, output: str) -> None:
    """Print rows to standard output, and to standard error what is wrong with the log."""
    if output == "json":
        sys.stdout.write(format_json(result))
    elif result.rows:
        lines = [HEADINGS] + [
            (row.time, row.operator or "<unknown>", row.method, row.target, row.verdict, row.reason)
            for row in result.rows
        ]
        widths = [max(len(cell(line[column])) for line in lines) + PADDING for column in range(len(HEADINGS))]
        for line in lines:
            print("".join(cell(text).ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    else:
        print("No operations found.", file=sys.stderr)
    for finding in result.findings:
        print(f"warning: the log is not as it was: {escape(finding)}", file=sys.stderr)
