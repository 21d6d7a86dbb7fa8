"""How far a container's OOM score may be lowered here: proc(5), ``/proc/<pid>/oom_score_adj``."""

from pathlib import Path

_CAP_SYS_RESOURCE = 24
LOWEST = -1000


def lowest_score(proc: Path = Path("/proc/self")) -> int:
    """The lowest ``oom_score_adj`` that this process could give to another.

    Lowering needs CAP_SYS_RESOURCE, which services in containers and in some sandboxes lack; the OCI
    runtime fails there. Podman's service is taken to be allowed what this process is.
    """
    for line in (proc / "status").read_text().splitlines():
        if line.startswith("CapEff:") and int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1:
            return LOWEST
    return int((proc / "oom_score_adj").read_text())
