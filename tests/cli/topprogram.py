"""The live view with an agent that answers twice and then no more; with ``fail`` it never does."""

import itertools
import sys

import msgspec

from edgeagent.api.errors import EdgeAgentError, TemporaryError
from edgeagent.api.objects.base import ObjectMeta
from edgeagent.cli.ending import run_to_end
from edgeagent.cli.topping import Top
from edgeagent.cli.topscreen import Picture
from tests.cli.test_top import BUSY, picture


def main(looks: int) -> int:
    """The view, of an agent that answers ``looks`` times."""
    count = itertools.count(1)

    def look() -> Picture:
        if (number := next(count)) > looks:
            raise TemporaryError("the agent does not answer")
        seen = picture(*BUSY)
        node = msgspec.structs.replace(seen.node, metadata=ObjectMeta(name=f"look {number}"))
        return Picture(node, seen.metrics, seen.pods, seen.disk, seen.now)

    return run_to_end(Top(look, "cpu", refresh=0.5).run())


if __name__ == "__main__":
    try:
        sys.exit(main(0 if "fail" in sys.argv else 2))
    except KeyboardInterrupt:
        sys.exit(130)
    except EdgeAgentError as error:
        sys.exit(f"error: {error}")
