"""``edgeagent``: run the agent, and the technician's commands on the node itself."""

import os
import sys
from collections.abc import Sequence

from edgeagent.api.errors import EdgeAgentError
from edgeagent.cli.commandwords import split_command
from edgeagent.cli.local.parser import build_parser

INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    words, inner = split_command(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    arguments = parser.parse_args(words)
    if inner and not getattr(arguments, "takes_command", False):
        parser.error(f"unrecognized arguments: -- {' '.join(inner)}")
    arguments.inner = inner
    try:
        code = int(arguments.command(arguments))
        sys.stdout.flush()
        return code
    except EdgeAgentError as error:
        from edgeagent.cli.output import escape  # not for help, nor for the agent itself

        told = escape(str(error), keep="\n")
        print(f"edgeagent: {told}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
