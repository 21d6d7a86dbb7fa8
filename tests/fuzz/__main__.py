"""``python -m tests.fuzz [TARGET …] --seconds N``: each target in turn, in a process of its own.

New inputs are kept in ``.cache/fuzz/<target>``; one that fails is put beside it and named. Exit status 1
where a target failed.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

MEMORY_MB = 768
INPUT_SECONDS = 5


def main() -> int:
    """Run what was asked for."""
    known = ", ".join(TARGETS)
    parser = argparse.ArgumentParser(prog="./dev fuzz", description="Fuzz the parsers of bytes from outside.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all of them, or some: {known}")
    parser.add_argument("--seconds", type=int, default=60, help="how long each of them runs (60)")
    parser.add_argument("--jobs", type=int, default=1, help="how many of them run at a time (1)")
    parser.add_argument("--seed", action="store_true", help="write the good inputs to the corpora, and end")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.targets if name not in TARGETS]:
        parser.error(f"there is no target {unknown[0]!r}; there are {known}")
    names = arguments.targets or list(TARGETS)
    if arguments.seed:
        for name in names:
            write_seeds(name)
        return 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        good = list(pool.map(lambda name: fuzz(name, arguments.seconds), names))
    failed = [name for name, is_good in zip(names, good, strict=True) if not is_good]
    print(f"fuzz: failed: {', '.join(failed)}" if failed else f"fuzz: {len(names)} targets, nothing found")
    return 1 if failed else 0


def write_seeds(name: str) -> None:
    """The good inputs of a target into its corpus."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (folder / f"seed-{number}").write_bytes(seed)


def fuzz(name: str, seconds: int) -> bool:
    """One target for so long; whether nothing was found."""
    kept = Path(".cache") / "fuzz" / name
    kept.mkdir(parents=True, exist_ok=True)
    argv = [
        sys.executable, "-m", "tests.fuzz.atheris_run", name, str(kept), str(CORPUS / name),
        f"-max_total_time={seconds}", f"-max_len={TARGETS[name].max_length}", f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={kept}.", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, errors="replace")
    runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {runs[0] if runs else 'no'} inputs", flush=True)
    if done.returncode != 0:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
