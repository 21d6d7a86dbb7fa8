"""Objects printed one after the other, as a watch tells of them, in each of the formats of ``-o``."""

import sys
from collections.abc import Sequence

from edgeagent.api.clock import SystemClock
from edgeagent.api.objects.decode import KubernetesObject
from edgeagent.cli.output import OutputFormat, Table, format_json, format_yaml, name_of, wants_colour
from edgeagent.cli.resources import Resource


class Printer:
    """Prints objects of one kind, each piece at once: somebody looks on, or a program reads."""

    def __init__(
        self,
        resource: Resource,
        output: OutputFormat,
        *,
        headers: bool,
        with_namespace: bool,
        counted: bool = False,
    ) -> None:
        """``counted`` as in ``Table``, and of no effect with ``-o wide``."""
        self._output = output
        self._documents = 0
        self._table = Table(
            resource,
            wide=output == "wide",
            headers=headers,
            with_namespace=with_namespace,
            colour=wants_colour(sys.stdout),
            counted=counted and output != "wide",
        )

    def show(self, items: Sequence[KubernetesObject]) -> None:
        """Print these."""
        if not items:
            return
        if self._output == "json":
            sys.stdout.writelines(format_json(item) for item in items)
        elif self._output == "yaml":
            for item in items:
                sys.stdout.write(("---\n" if self._documents else "") + format_yaml(item))
                self._documents += 1
        elif self._output == "name":
            sys.stdout.writelines(f"{name_of(item)}\n" for item in items)
        else:
            sys.stdout.writelines(f"{line}\n" for line in self._table.lines(items, SystemClock().now()))
        sys.stdout.flush()
