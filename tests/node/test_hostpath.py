"""hostPath volumes that several pods want made at one time."""

import socket
import threading
from pathlib import Path

import pytest

from edgeagent.api.errors import EdgeAgentError, PermanentError
from edgeagent.api.objects.volume import HostPathVolumeSource
from edgeagent.node.pods.volumes import hostpath
from edgeagent.node.pods.volumes.hostpath import check_host_path


@pytest.mark.parametrize("kind", ["DirectoryOrCreate", "FileOrCreate", ""])
def test_all_that_want_it_made_get_it(tmp_path: Path, kind: str) -> None:
    failed: list[Exception] = []

    def check(source: HostPathVolumeSource, together: threading.Barrier) -> None:
        together.wait()
        try:
            check_host_path(source, tmp_path)
        except (EdgeAgentError, OSError) as error:
            failed.append(error)

    for number in range(60):
        below = "/a/b" if kind != "FileOrCreate" else ""
        source, together = HostPathVolumeSource(path=f"/{number}{below}", type=kind), threading.Barrier(4)  # type: ignore[arg-type]
        threads = [threading.Thread(target=check, args=(source, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


@pytest.mark.parametrize(
    ("kind", "words"), [("DirectoryOrCreate", "a directory"), ("FileOrCreate", "a file")]
)
def test_what_came_meanwhile_must_be_of_the_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    """Another program makes something else at that path after it was looked for."""
    path = tmp_path / "x"
    look = hostpath._mode

    def looked(asked: Path) -> int | None:
        found = look(asked)
        if found is None:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        return found

    monkeypatch.setattr(hostpath, "_mode", looked)
    with pytest.raises(PermanentError, match=f"/x is not {words}"):
        check_host_path(HostPathVolumeSource(path="/x", type=kind), tmp_path)  # type: ignore[arg-type]
