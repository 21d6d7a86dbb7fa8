"""``[[plugins.logs.sinks]]``: what is refused, and what is said of it."""

import tomllib
from pathlib import Path

import pytest

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import convert
from edgeagent_logs.config import LogsConfig
from edgeagent_logs.sinkconfig import MAX_SINKS, ElasticsearchConfig, LokiConfig, OtlpConfig, SyslogConfig

AT = r"sinks\[[0*]\]"
ES = "type = 'elasticsearch'\nname = 'a'\nurl = 'https://es:9200'\n"
LOKI = "type = 'loki'\nname = 'a'\nurl = 'https://loki'\n"
SYSLOG = "type = 'syslog'\nname = 'a'\nhost = 'logs'\n"


def config(text: str) -> LogsConfig:
    return convert(tomllib.loads(text), LogsConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'a'", rf"^{AT}.type: required field is missing$"),
        ("type = 'kafka'\nname = 'a'", rf"^{AT}.type: invalid value 'kafka', expected one of elastic"),
        ("type = 'loki'\nname = 'a'", rf"^{AT}.url: required field is missing$"),
        (ES + "colour = 'red'", rf"^{AT}.colour: unknown field$"),
        (ES.replace("'a'", "'A b'"), rf"^{AT}.name: expected str matching regex"),
        (ES.replace("https", "ftp"), rf"^{AT}.url: expected str matching regex"),
        (ES.replace("es:9200", "edge:s3cret@es"), rf"^{AT}: sink a: url: holds a user or a password: set"),
        (ES.replace("es:9200", "es:9200/sn☃w"), rf"^{AT}.url: expected str matching regex"),
        (ES.replace("es:9200", "/x"), rf"^{AT}: sink a: url: has no host"),
        (ES.replace("9200", "92000"), rf"^{AT}: sink a: url: Port out of range 0-65535$"),
        (ES.replace("9200", "0"), rf"^{AT}: sink a: url: has no host, or port 0"),
        (ES.replace("9200", "9200/?x=1"), rf"^{AT}: sink a: url: may have no \? and no #$"),
        (ES.replace("es:9200", ":9200"), rf"^{AT}: sink a: url: has no host"),
        (ES.replace("es:9200", "[::1"), rf"^{AT}: sink a: url: "),
        (ES + "timeout = 0", rf"^{AT}.timeout: expected float >= 1.0$"),
        (ES + "timeout = 300", rf"^{AT}.timeout: expected float <= 60.0$"),
        (ES + "username = 'x'", rf"^{AT}: sink a: username: belongs together with password_file"),
        (ES + "password_file = '/x'", rf"^{AT}: sink a: username: belongs together with password_file"),
        (ES + "password_file = 'x'", rf"^{AT}.password_file: expected str matching regex"),
        (
            ES + "bearer_token_file = '/x'\napi_key_file = '/y'",
            rf"^{AT}: sink a: api_key_file: cannot be used together with bearer_token_file$",
        ),
        (
            ES.replace("https", "http") + "api_key_file = '/y'",
            rf"^{AT}: sink a: api_key_file: would be sent in clear over http: use https, or set plain_cred",
        ),
        (ES.replace("https", "http") + "header_files = {X = '/y'}", rf"^{AT}: sink a: header_files: would"),
        (ES + "headers = {Authorization = 'x'}", rf"^{AT}: sink a: headers: may not hold authorization"),
        (ES + "headers = {'content-TYPE' = 'x'}", rf"^{AT}: sink a: headers: may not hold content-type"),
        (ES + "headers = {'a b' = 'x'}", rf"^{AT}.headers.*: expected str matching regex"),
        (ES + "headers = {a = \"x\\ny\"}", rf"^{AT}.headers.*: expected str matching regex"),
        (ES + "headers = {a = 'x', A = 'y'}", rf"^{AT}: sink a: headers: holds one name twice$"),
        (
            ES + "bearer_token_file = '/x'\nheader_files = {authorization = '/y'}",
            rf"^{AT}: sink a: header_files: may not hold authorization together with bearer_token_file$",
        ),
        (ES + "tls = {key_file = '/x'}", rf"^{AT}.tls: certificate_file and key_file belong together"),
        (ES + "index = 'Logs'", rf"^{AT}: sink a: index: is no name of an index: lower case"),
        (ES + "index = ''", rf"^{AT}: sink a: index: is no name of an index"),
        (ES + "index = '_logs'", rf"^{AT}: sink a: index: is no name of an index"),
        (ES + "index = 'logs-%Y'", rf"^{AT}: sink a: index: a data stream has no dates in its name"),
        (ES + "index = 'logs-%j'\ndata_stream = false", rf"^{AT}: sink a: index: %j is unknown"),
        (ES + "index = 'logs-%'\ndata_stream = false", rf"^{AT}: sink a: index: % is unknown"),
        (ES + "op = 'index'", rf"^{AT}: sink a: op: a data stream takes create alone"),
        (ES + "op = 'delete'", rf"^{AT}.op: invalid enum value 'delete', expected one of create, index$"),
        (LOKI + "labels = ['uid']", rf"^{AT}.labels\[[.0*]+\]: invalid enum value 'uid', expected one of "),
        (LOKI + "static_labels = {'a-b' = 'x'}", rf"^{AT}.static_labels.*: expected str matching regex"),
        (LOKI + "static_labels = {'__name__' = 'x'}", rf"^{AT}.static_labels.*: expected str matching regex"),
        (LOKI + "static_labels = {a = ''}", rf"^{AT}.static_labels.*: expected str of length >= 1"),
        (LOKI + "static_labels = {node = 'x'}", rf"^{AT}: sink a: labels: node is there twice"),
        (LOKI + "static_labels = {}\nlabels = ['pod']", rf"^{AT}: sink a: static_labels: is empty"),
        (
            LOKI + "pod_labels = {" + ", ".join(f"l{n} = 'x'" for n in range(10)) + "}",
            rf"^{AT}: sink a: labels: 16 in all, and Loki takes 15 at most$",
        ),
        (LOKI + "tenant = \"a/b\"", rf"^{AT}.tenant: expected str matching regex"),
        (SYSLOG + "port = 0", rf"^{AT}.port: expected int >= 1$"),
        (SYSLOG + "facility = 'local9'", rf"^{AT}.facility: invalid enum value 'local9', .*, local7"),
        (SYSLOG + "transport = 'tcp'\ntls = {ca_file = '/x'}", rf"^{AT}: sink a: tls: is for transport"),
        (SYSLOG + "structured_data = 'edgeagent'", rf"^{AT}.structured_data: expected str matching regex"),
        (SYSLOG + "max_message_bytes = 100", rf"^{AT}.max_message_bytes: expected int >= 480$"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidObjectError, match=message) as caught:
        config("[[sinks]]\n" + text)
    assert "s3cret" not in str(caught.value)


def test_names_are_different() -> None:
    with pytest.raises(InvalidObjectError, match="sinks: two are named a: "):
        config(f"[[sinks]]\n{ES}[[sinks]]\n{LOKI}")


def test_there_are_not_too_many() -> None:
    text = "".join(
        f"[[sinks]]\n{LOKI.replace(chr(39) + 'a', f'{chr(39)}a{n}')}" for n in range(MAX_SINKS + 1)
    )
    with pytest.raises(InvalidObjectError, match=f"sinks: expected array of length <= {MAX_SINKS}"):
        config(text)


def test_all_kinds_in_one_file() -> None:
    otlp = "type = 'otlp'\nname = 'b'\nurl = 'http://[::1]:4318/prefix'\nheaders = {x = 'y'}\n"
    made = config(
        f"[[sinks]]\n{ES}[[sinks]]\n{otlp}[[sinks]]\n{LOKI.replace(chr(39) + 'a', chr(39) + 'c')}"
    ).sinks
    assert [type(one) for one in made] == [ElasticsearchConfig, OtlpConfig, LokiConfig]
    assert config(f"[[sinks]]\n{SYSLOG}").sinks == [SyslogConfig(name="a", host="logs")]


def test_the_samples_and_examples_are_accepted(checkout: Path) -> None:
    """What is commented out in the sample, and every example of a sink."""
    sample = (checkout / "plugins" / "edgeagent_logs" / "sample.toml").read_text()
    commented = [line.removeprefix("# ") for line in sample.splitlines()]
    text = "\n".join(line for line in commented if "=" in line or line.startswith("["))
    assert len(convert(_section(text), LogsConfig).sinks) == 4
    examples = sorted((checkout / "examples" / "logs").glob("*.toml"))
    assert len(examples) >= 5
    for path in examples:
        assert convert(_section(path.read_text()), LogsConfig).sinks, path


def _section(text: str) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads(text)["plugins"]["logs"]
    found.pop("enabled", None)
    return found
