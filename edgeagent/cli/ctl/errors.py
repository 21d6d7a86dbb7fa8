"""What a command that is not done ends in, and how a person is told."""

import sys

from edgeagent.api.errors import EdgeAgentError


class UsageError(EdgeAgentError):
    """The command line makes no sense."""


class CommandError(EdgeAgentError):
    """The command could not be done; the message is printed as it stands."""


def complain(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)
