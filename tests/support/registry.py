"""A real image registry (Debian's ``docker-registry``) on loopback, over plain HTTP."""

import http.client
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.proc import Process, free_port, port_answers


class Registry:
    """``docker-registry serve`` with its storage in ``directory``."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        config = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.address, "secret": secrets.token_hex(16)},
        }
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "config.yml"
        path.write_text(json.dumps(config, indent=2))  # JSON is YAML
        self.process = Process(
            ["docker-registry", "serve", str(path)],
            log=directory / "registry.log",
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """``host:port``, the first part of an image's name."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and return once it accepts connections."""
        if not self.process.running:
            self.process.start()
            self.process.wait_until(lambda: port_answers(self.port), what="accepting connections")
        return self

    def stop(self) -> None:
        """End it; what was pushed stays."""
        self.process.terminate()

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository; none if there is no such repository."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/v2/{repository}/tags/list")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return [str(tag) for tag in answer.get("tags") or []]
