"""A real Prometheus that takes remote_write, or scrapes, on loopback."""

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.proc import Process, free_port

PROMETHEUS = "/usr/bin/prometheus"


class Prometheus(Process):
    """``out_of_order``: how old samples may be, as Prometheus writes durations; empty: none may be.

    ``scrape`` is a target to scrape, such as ``127.0.0.1:9464``; with ``tls``, a ``tls_config``, over https.
    """

    def __init__(
        self,
        directory: Path,
        *,
        out_of_order: str = "",
        scrape: str = "",
        tls: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config: dict[str, Any] = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}}
        if out_of_order:
            config["storage"] = {"tsdb": {"out_of_order_time_window": out_of_order}}
        if scrape:
            target: dict[str, Any] = {
                "job_name": "edge",
                "honor_labels": True,
                "static_configs": [{"targets": [scrape]}],
            }
            if tls is not None:
                target |= {"scheme": "https", "tls_config": dict(tls)}
            config["scrape_configs"] = [target]
        directory.mkdir()
        path = directory / "prometheus.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        super().__init__(
            [
                PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-remote-write-receiver",
                "--storage.tsdb.retention.time=30d",
            ],
            log=directory / "prometheus.log",
        )  # fmt: skip

    @property
    def write_url(self) -> str:
        """Where remote_write goes."""
        return f"{self.url}/api/v1/write"

    def ready(self) -> bool:
        """Whether it serves requests."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait_ready(self) -> None:
        """Until it serves requests."""
        self.wait_until(self.ready, what="ready", timeout=60)

    def query_range(self, query: str, start: float, end: float, step: float) -> dict[str, dict[float, float]]:
        """By labels, as JSON with sorted keys, the values by time."""
        found = self._get("query_range", {"query": query, "start": start, "end": end, "step": step})
        return {
            json.dumps(one["metric"], sort_keys=True): {at: float(value) for at, value in one["values"]}
            for one in found["result"]
        }

    def samples(self, selector: str, at: float, seconds: int) -> dict[str, list[tuple[float, float]]]:
        """By labels, the raw samples of the last ``seconds`` before ``at``, in order."""
        found = self._get("query", {"query": f"{selector}[{seconds}s]", "time": at})
        return {
            json.dumps(one["metric"], sort_keys=True): [(t, float(value)) for t, value in one["values"]]
            for one in found["result"]
        }

    def now(self, query: str) -> dict[str, float]:
        """By labels, as JSON with sorted keys, the values at the moment."""
        found = self._get("query", {"query": query})
        return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in found["result"]}

    def names(self) -> set[str]:
        """Of all metrics that it has."""
        return set(self._get("label/__name__/values", {}))

    def types(self) -> dict[str, str]:
        """Of the metrics that it has scraped, by name."""
        return {one["metric"]: one["type"] for one in self._get("targets/metadata", {})}

    def _get(self, what: str, arguments: Mapping[str, object]) -> Any:
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=30) as answer:  # noqa: S310
            return json.load(answer)["data"]
