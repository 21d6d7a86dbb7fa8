"""``edgectl audit`` and ``reboot``, and ``edgeagent audit``: what is printed of what is answered."""

import json

import pytest

from edgeagent.cli import auditview
from edgeagent.wire.audit import AuditResult, AuditRow
from edgeagent.wire.rpc import RebootResult, RpcError
from tests.cli.running import Ctl
from tests.cli.scripted import ScriptedHub

ROW = AuditRow(
    chain="c", sequence=1, time="2027-01-15T08:00:00Z", operator="ann", method="logs",
    target="pods/log/shop/\x1b[1mweb", verdict="refused", reason="forbidden", nonce="n", previous="p",
)  # fmt: skip


def test_rows_of_a_node_and_of_the_hub(ctl: Ctl, config: int) -> None:
    with ScriptedHub(config, lambda call: call.reply(AuditResult(rows=[ROW]))) as hub:
        done = ctl("audit", "gw-1", "--tail", "5")
        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines()[0].split() == [
            "TIME",
            "OPERATOR",
            "METHOD",
            "TARGET",
            "VERDICT",
            "REASON",
        ]
        assert "pods/log/shop/\\x1b[1mweb" in done.out
        assert json.loads(ctl("audit", "-o", "json").out)["rows"][0]["operator"] == "ann"
        asked = [(call.method, call.target, call.params) for call in hub.calls]
        assert asked == [("audit", "hub", {"node": "gw-1", "count": 5}), ("audit", "hub", {})]


def test_a_log_that_was_changed_is_said_aloud(ctl: Ctl, config: int) -> None:
    result = AuditResult(findings=["rows 2 to 3 never \x1b came"])
    with ScriptedHub(config, lambda call: call.reply(result)):
        done = ctl("audit", "gw-1")
    assert (done.code, done.out) == (1, "")
    assert "warning: the log is not as it was: rows 2 to 3 never \\x1b came" in done.err
    assert "No operations found." in done.err


def test_a_reboot_is_asked_of_the_node(ctl: Ctl, config: int) -> None:
    with ScriptedHub(config, lambda call: call.reply(RebootResult(boot_id="b"))) as hub:
        done = ctl("reboot", "gw-1")
        assert (done.code, done.out) == (0, "node/gw-1 is rebooting\n")
        assert (hub.calls[0].method, hub.calls[0].target, hub.calls[0].params) == ("reboot", "gw-1", {})
    with ScriptedHub(config, lambda call: call.fail(RpcError("Forbidden", "no"))):
        assert ctl("reboot", "gw-1").err == "Error from server (Forbidden): no\n"
    with ScriptedHub(config, lambda call: None):
        done = ctl("--request-timeout=1s", "reboot", "gw-1")
        assert (done.code, "may be on its way down all the same" in done.err) == (1, True)


@pytest.mark.parametrize("words", [["--tail", "0"], ["--tail", "9999"], ["--tail", "x"], ["a", "b"]])
def test_usage(ctl: Ctl, words: list[str]) -> None:
    assert ctl("audit", *words).code == 1


def test_an_unknown_operator_has_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    row = AuditRow(
        chain="c", sequence=1, time="", operator="", method="logs", target="", verdict="refused",
        reason="x", nonce="", previous="",
    )  # fmt: skip
    auditview.show(AuditResult(rows=[row]), "table")
    assert "<unknown>" in capsys.readouterr().out
