"""The dashboard and the alert rules in examples/, by promtool. What they ask for is looked for in e2e."""

import json
import subprocess
from pathlib import Path

from tests.plugins.metrics.metricskit import expressions


def test_the_rules_are_rules(checkout: Path, tmp_path: Path) -> None:
    """By promtool; every panel's query too, once its variables have values."""
    rules = checkout / "examples/prometheus"
    dashboard = json.loads((checkout / "examples/grafana/edgeagent-node.json").read_text())
    queries = [
        one.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$namespace", ".*")
        for one in expressions(dashboard)
    ]
    recorded = [{"record": f"panel_{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "panels.json").write_text(json.dumps({"groups": [{"name": "panels", "rules": recorded}]}))
    for command in (
        ["check", "config", rules / "prometheus.yml"],
        ["check", "rules", rules / "edgeagent-alerts.yml"],
        ["test", "rules", rules / "edgeagent-alerts-test.yml"],
        ["check", "rules", tmp_path / "panels.json"],
    ):
        argv = ["promtool", *map(str, command)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(queries) > 40
