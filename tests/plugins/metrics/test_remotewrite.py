"""The plugin's receivers: what may be configured, and what reaches them."""

import json
from pathlib import Path

import pytest

from edgeagent.api.delivery import Delivery
from edgeagent.api.errors import InvalidObjectError, PermanentError, TemporaryError
from edgeagent.api.metrics import STALE, FamilyHead, SampleBatch, Series
from edgeagent.api.objects.decode import convert
from edgeagent_metrics.config import MetricsConfig
from edgeagent_metrics.exporters import make_exporters
from tests.support.httpreceiver import says
from tests.support.remotewritereceiver import RemoteWriteReceiver

BATCH = SampleBatch(
    families=[FamilyHead("up", "gauge", "Up."), FamilyHead("seconds", "histogram", "Seconds.")],
    series=[
        Series(0, {"n": "1"}, [1000, 2000], [1.0, STALE]),
        Series(1, {"le": "+Inf", "job": "own", "empty": ""}, [2000], [3.0], "_bucket"),
    ],
)


def config(**target: object) -> MetricsConfig:
    whole = {"name": "central", "url": "http://127.0.0.1:1/", **target}
    return convert({"remote_write": [whole]}, MetricsConfig)


def labels(receiver: RemoteWriteReceiver) -> list[dict[str, str]]:
    return [json.loads(key) for key in sorted(receiver.series)]


def test_without_a_receiver_there_is_no_exporter() -> None:
    exporters = make_exporters(MetricsConfig(), node="n1")
    assert exporters.names() == []
    with pytest.raises(PermanentError):
        exporters.export("central", BATCH)


def test_what_reaches_a_receiver(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    with RemoteWriteReceiver() as receiver:
        receiver.credential = "Bearer s3cret"
        made = config(
            url=f"{receiver.url}/push?tenant=1",
            token_file=str(tmp_path / "token"),
            plain_credentials=True,
            headers={"X-Scope-OrgID": "plant"},
            external_labels={"site": "north", "instance": ""},
        )
        exporters = make_exporters(made, node="n1")
        assert exporters.names() == ["central"]
        assert exporters.export("central", BATCH) == Delivery()
        assert labels(receiver) == [
            {"__name__": "seconds_bucket", "job": "own", "le": "+Inf", "site": "north"},
            {"__name__": "up", "job": "edgeagent", "n": "1", "site": "north"},
        ]
        (request,) = receiver.requests
        assert (request.path, request.query) == ("/push", "tenant=1")
        assert request.headers["x-scope-orgid"] == "plant"
        assert request.headers["user-agent"].startswith("edgeagent/")
        exporters.close()  # type: ignore[attr-defined]


def test_the_nodes_name_is_the_instance_unless_it_is_given() -> None:
    with RemoteWriteReceiver() as receiver:
        exporters = make_exporters(config(url=receiver.url), node="n1")
        exporters.export("central", BATCH)
        assert {one["instance"] for one in labels(receiver)} == {"n1"}
        receiver.faults.append(says(429, Retry_After="5"))
        with pytest.raises(TemporaryError) as caught:
            exporters.export("central", BATCH)
        assert caught.value.delay == 5.0
        exporters.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ({"url": "ftp://x/"}, "remote_write[0].url"),
        ({"url": "http://user:secret@x/"}, "remote_write[0].url"),
        ({"name": "A B"}, "remote_write[0].name"),
        ({"headers": {"Authorization": "x"}}, "Authorization cannot be set here"),
        ({"headers": {"X-Prometheus-Remote-Write-Version": "2"}}, "cannot be set here"),
        ({"headers": {"X": "a\nb"}}, "remote_write[0].headers"),
        ({"external_labels": {"0": "x"}}, "remote_write[0].external_labels"),
        ({"username": "u"}, "username and password_file belong together"),
        ({"username": "u", "password_file": "/p", "token_file": "/t"}, "not both"),
        (
            {"token_file": "/t"},
            "central: token_file: would be sent in clear over http: use https, or set"
            " plain_credentials = true",
        ),
        (
            {"username": "u", "password_file": "/p"},
            "central: password_file: would be sent in clear over http",
        ),
        ({"certificate_file": "/c"}, "certificate_file and key_file belong together"),
        ({"ca_file": "relative"}, "remote_write[0].ca_file"),
        ({"timeout_seconds": 600}, "remote_write[0].timeout_seconds"),
        ({"urls": "x"}, "urls"),
    ],
)
def test_what_is_wrong_is_said(target: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        config(**target)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_credentials_go_over_https_or_where_it_is_said_that_they_may_be_read() -> None:
    for target in (
        {"url": "https://x/", "token_file": "/t"},
        {"plain_credentials": True, "token_file": "/t"},
        {"plain_credentials": True, "username": "u", "password_file": "/p"},
    ):
        assert config(**target).remote_write


def test_two_receivers_cannot_have_one_name() -> None:
    two = [{"name": "central", "url": "http://x/"}, {"name": "central", "url": "http://y/"}]
    with pytest.raises(InvalidObjectError, match="two of the name central"):
        convert({"remote_write": two}, MetricsConfig)
