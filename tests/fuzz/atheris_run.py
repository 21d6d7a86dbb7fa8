"""``python -m tests.fuzz.atheris_run TARGET …``: one target under atheris, with libFuzzer's own arguments."""

import importlib
import logging
import sys

from tests.fuzz.modules import MODULES


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    # Not a package that must be there: only who fuzzes installs it.
    atheris = importlib.import_module("atheris")
    name = sys.argv[1]
    # Instrumenting everything takes many seconds.
    with atheris.instrument_imports(include=list(MODULES[name])):
        targets = importlib.import_module("tests.fuzz.targets")
    logging.disable(logging.CRITICAL)
    target = targets.TARGETS[name]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: target.run(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
