"""``edgectl``: kubectl's commands for a cluster of edge nodes, over MQTT.

Messages, columns and exit codes are kubectl's. What is heavy (YAML, MQTT, cryptography) is imported by the
command that needs it, so that help and usage errors come at once.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from edgeagent.api.errors import EdgeAgentError
from edgeagent.cli.commandwords import split_command
from edgeagent.cli.ctl.errors import CommandError, UsageError, complain
from edgeagent.cli.ctl.parser import build_parser

INTERRUPTED = 130
BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``edgectl``; the exit code is 0, 1 for any error, 130 after ^C; of ``exec`` the command's."""
    parser = build_parser()
    try:
        with _quiet_pipe():
            try:
                words, inner = split_command(sys.argv[1:] if argv is None else argv)
                options = parser.parse_args(_with_values(words))
                if inner and options.command != "exec":
                    parser.error(f"unrecognized arguments: -- {' '.join(inner)}")
                options.inner = inner
            except SystemExit as ending:
                return ending.code if isinstance(ending.code, int) else 1
            if options.command is None:
                parser.print_help()
                return 0
            return _run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more. The interpreter's own last flush must not complain about it.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except CommandError as error:
        complain(str(error))
    except UsageError as error:
        complain(f"error: {error}\nSee 'edgectl {options.command} --help' for usage.")
    except EdgeAgentError as error:
        from edgeagent.cli.output import escape

        complain(f"error: {escape(str(error))}")
    return 1


def _run(options: argparse.Namespace) -> int:
    """Import the command's own module, and run it."""
    match options.command:
        case "apply":
            from edgeagent.cli.ctl import apply

            return apply.run(options)
        case "get" | "events":
            from edgeagent.cli.ctl import get

            return get.run(options)
        case "describe":
            from edgeagent.cli.ctl import describe

            return describe.run(options)
        case "delete":
            from edgeagent.cli.ctl import delete

            return delete.run(options)
        case "logs":
            from edgeagent.cli.ctl import logs

            return logs.run(options)
        case "exec":
            from edgeagent.cli.ctl import execute

            return execute.run(options)
        case "port-forward":
            from edgeagent.cli.ctl import portforward

            return portforward.run(options)
        case "top":
            from edgeagent.cli.ctl import top

            return top.run(options)
        case "network":
            from edgeagent.cli.ctl import network

            return network.run(options)
        case "audit":
            from edgeagent.cli.ctl import audit

            return audit.run(options)
        case "reboot":
            from edgeagent.cli.ctl import reboot

            return reboot.run(options)
        case "version":
            from edgeagent.cli.ctl import version

            return version.run(options)
        case "completion":
            from edgeagent.cli.ctl import completion

            return completion.run(options)
    raise AssertionError(options.command)


def _with_values(words: Sequence[str]) -> list[str]:
    """``--wait`` and ``--dry-run`` without a value mean one, and never take the next word as theirs."""
    alone = {"--wait": "--wait=true", "--dry-run": "--dry-run=client"}
    return [alone.get(word, word) for word in words]


@contextlib.contextmanager
def _quiet_pipe() -> Iterator[None]:
    """Flush what was printed; raises BrokenPipeError here, not when the interpreter ends."""
    try:
        yield
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
