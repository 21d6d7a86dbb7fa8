"""The files of ``-f``, as checked objects."""

import argparse

from edgeagent.cli.ctl.errors import CommandError
from edgeagent.cli.manifests import Manifest, ManifestError, read_manifests
from edgeagent.cli.output import escape


def read_files(options: argparse.Namespace) -> list[Manifest]:
    """The objects in the files that were named; raises CommandError that tells all that is wrong."""
    try:
        return read_manifests(
            options.filename,
            namespace=options.namespace or "default",
            enforce_namespace=bool(options.namespace),
            recursive=options.recursive,
        )
    except ManifestError as error:
        raise CommandError("\n".join(f"error: {escape(problem)}" for problem in error.problems)) from None
