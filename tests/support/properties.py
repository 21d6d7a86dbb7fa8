"""How property tests choose their examples: at random by hand, the same for the same commit in the gate."""

import importlib
import importlib.metadata
import os
import pkgutil

from hypothesis import HealthCheck, settings

VARIABLE = "HYPOTHESIS_PROFILE"
RANDOM = "random"
GATE = "ci"
"""Has the name of hypothesis's own profile for CI, which it takes by itself where ``CI`` is set."""


def load_profile() -> None:
    """Follow the profile that the environment names, at random without one; no example has a deadline."""
    settings.register_profile(RANDOM, deadline=None, derandomize=False)
    settings.register_profile(
        GATE,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    name = os.environ.get(VARIABLE) or RANDOM
    settings.load_profile(name)
    if name == GATE:
        import_everything()


def import_everything() -> None:
    """Import all modules of edgeagent and its plugins.

    Among hypothesis's examples are constants of the code that is imported at the time: which that is would
    depend on the tests that ran before on the same worker.
    """
    packages = {
        point.module.partition(".")[0] for point in importlib.metadata.entry_points(group="edgeagent")
    }
    for name in sorted({"edgeagent", *packages}):
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
