"""``[[plugins.logs.sinks]]``: where logs are shipped to. One section for each place, told apart by ``type``.

Credentials are in files of their own: what is written here may be shown by commands and in errors.
"""

import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from edgeagent.api.plugin import PluginConfig

MAX_SINKS = 8
"""Each may be busy with a request of its own at the same time, in a thread of its own."""

SinkName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
FilePath = Annotated[str, msgspec.Meta(pattern=r"^(/[^\x00]*)?$", max_length=4096)]
"""Absolute, or empty for none."""
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]+$", max_length=2048)]
HeaderName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
HeaderValue = Annotated[str, msgspec.Meta(pattern=r"^[ -~]*$", max_length=4096)]
LabelName = Annotated[str, msgspec.Meta(pattern=r"^(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,127}$")]
"""Of Prometheus and Loki; two underscores at the beginning are theirs."""
AttributeName = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,128}$")]
PodLabels = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=317)]], msgspec.Meta(max_length=64)
]

_OURS = frozenset({
    "authorization", "connection", "content-encoding", "content-length", "content-type", "host",
    "proxy-authorization", "transfer-encoding",
})  # fmt: skip


class TlsConfig(PluginConfig, frozen=True):
    """``[plugins.logs.sinks.tls]``. ``ca_file``: who is believed, in PEM; empty for the system's own CAs.

    ``certificate_file`` and ``key_file``: what this node shows, in PEM. ``server_name``: what the other
    side's certificate must be for; empty for the host that is connected to.
    """

    ca_file: FilePath = ""
    certificate_file: FilePath = ""
    key_file: FilePath = ""
    server_name: Annotated[str, msgspec.Meta(max_length=253)] = ""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file belong together: give both, or neither")


class SinkConfig(PluginConfig, frozen=True, kw_only=True, tag_field="type"):
    """What every sink has. ``name`` is for ever: what a sink has got is remembered by it.

    ``timeout``: seconds for one request with all that belongs to it, from finding the address to the last
    byte of the answer.
    """

    name: SinkName
    timeout: Annotated[float, msgspec.Meta(ge=1, le=60)] = 30.0
    tls: TlsConfig = TlsConfig()


class HttpSinkConfig(SinkConfig, frozen=True, kw_only=True):
    """What every sink that speaks HTTP has.

    ``url`` is the server's; the path of the API is added where it does not end with it. ``username`` with
    ``password_file``, or ``bearer_token_file``, is who this node is. ``headers`` are sent as they are,
    ``header_files`` with what the files hold. All this is sent over plain ``http`` only with
    ``plain_credentials``. ``max_request_bytes`` is before compression.
    """

    url: Url
    username: Annotated[str, msgspec.Meta(pattern=r"^[^:\x00-\x1f]*$", max_length=256)] = ""
    password_file: FilePath = ""
    bearer_token_file: FilePath = ""
    headers: Annotated[dict[HeaderName, HeaderValue], msgspec.Meta(max_length=32)] = {}
    header_files: Annotated[dict[HeaderName, FilePath], msgspec.Meta(max_length=32)] = {}
    plain_credentials: bool = False
    compression: Literal["gzip", "none"] = "gzip"
    max_request_bytes: Annotated[int, msgspec.Meta(ge=16_384, le=16_777_216)] = 1_048_576

    @property
    def place(self) -> SplitResult:
        """``url``, taken apart."""
        return urlsplit(self.url)

    def identities(self) -> list[str]:
        """Which keys say who this node is; at most one may."""
        keys = {"password_file": self.password_file, "bearer_token_file": self.bearer_token_file}
        return [key for key, value in keys.items() if value]

    def __post_init__(self) -> None:
        try:
            place = self.place
            port = place.port
        except ValueError as error:
            raise self.wrong("url", str(error)) from None
        if place.username is not None or place.password is not None:
            raise self.wrong("url", "holds a user or a password: set username and password_file instead")
        if not place.hostname or port == 0:
            raise self.wrong("url", "has no host, or port 0: expected one like https://logs.example.com:9200")
        if place.query or place.fragment:
            raise self.wrong("url", "may have no ? and no #")
        if bool(self.username) != bool(self.password_file):
            raise self.wrong("username", "belongs together with password_file: give both, or neither")
        identities = self.identities()
        if len(identities) > 1:
            raise self.wrong(identities[1], f"cannot be used together with {identities[0]}")
        for key, names in (("headers", self.headers), ("header_files", self.header_files)):
            lower = [name.lower() for name in names]
            if taken := sorted(
                _OURS.intersection(lower) - ({"authorization"} if key == "header_files" else set())
            ):
                raise self.wrong(key, f"may not hold {taken[0]}, which is set by this program")
            if len(set(lower)) < len(lower):
                raise self.wrong(key, "holds one name twice")
        if identities and "authorization" in {name.lower() for name in self.header_files}:
            raise self.wrong("header_files", f"may not hold authorization together with {identities[0]}")
        secret = [*identities, *(["header_files"] if self.header_files else [])]
        if secret and place.scheme == "http" and not self.plain_credentials:
            problem = "would be sent in clear over http: use https, or set plain_credentials = true"
            raise self.wrong(secret[0], problem)

    def wrong(self, key: str, problem: str) -> ValueError:
        """The error of a key, which names the sink: an item of a list has no name in a path."""
        return ValueError(f"sink {self.name}: {key}: {problem}")


_INDEX = re.compile(r"^(?![-_+.])[^A-Z\\/*?\"<>| ,#:\x00-\x1f]{1,200}$")
_DATES = re.compile(r"%(.?)", re.DOTALL)


class ElasticsearchConfig(HttpSinkConfig, frozen=True, kw_only=True, tag="elasticsearch"):
    """``type = "elasticsearch"``: Elasticsearch 7.10 and later, OpenSearch, and what has their ``_bulk``.

    ``index``: a data stream with ``data_stream``, else an index, in which ``%Y``, ``%m``, ``%d`` and ``%H``
    stand for the record's own time in UTC. ``op``: ``create`` leaves a record that is there already,
    ``index`` writes it again; data streams know the first alone. ``api_key_file`` holds the encoded key.
    ``pipeline``: the ingest pipeline to go through.
    """

    index: str = "logs-edgeagent-default"
    data_stream: bool = True
    op: Literal["create", "index"] = "create"
    api_key_file: FilePath = ""
    pipeline: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]*$", max_length=255)] = ""
    pod_labels: PodLabels = msgspec.field(default_factory=lambda: ["*"])

    def identities(self) -> list[str]:
        """Adds the API key."""
        return [*super().identities(), *(["api_key_file"] if self.api_key_file else [])]

    def __post_init__(self) -> None:
        super().__post_init__()
        letters = _DATES.findall(self.index)
        if unknown := [letter for letter in letters if letter not in ("Y", "m", "d", "H")]:
            raise self.wrong("index", f"%{unknown[0]} is unknown: there are %Y, %m, %d and %H")
        if not _INDEX.match(_DATES.sub("0", self.index)):
            problem = 'is no name of an index: lower case, none of \\ / * ? " < > | space , # :'
            raise self.wrong("index", f"{problem}, and not begun with - _ + or .")
        if self.data_stream and letters:
            raise self.wrong("index", "a data stream has no dates in its name: set data_stream = false")
        if self.data_stream and self.op == "index":
            raise self.wrong("op", "a data stream takes create alone: set data_stream = false")


LokiLabel = Literal["cluster", "node", "namespace", "pod", "container", "unit", "stream", "level"]
MAX_LABELS = 15
"""Loki's own default limit, ``max_label_names_per_series``."""


class LokiConfig(HttpSinkConfig, frozen=True, kw_only=True, tag="loki"):
    """``type = "loki"``: Loki 2.9 and later, and what has its push API.

    ``labels`` are those of streams: few values each, for each combination is a stream of its own.
    ``pod_labels`` adds labels by name, each with the value of a pod's label: ``{app =
    "app.kubernetes.io/name"}``; ``static_labels`` are the same for all. What is no label is structured
    metadata of each line, unless ``structured_metadata`` is false. ``tenant`` is sent as X-Scope-OrgID.
    """

    tenant: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9!._*'()|-]*$", max_length=150)] = ""
    labels: list[LokiLabel] = msgspec.field(
        default_factory=lambda: ["cluster", "node", "namespace", "container", "unit"]
    )
    pod_labels: dict[LabelName, str] = {}
    static_labels: dict[LabelName, Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]] = (
        msgspec.field(default_factory=lambda: {"job": "edgeagent"})
    )
    structured_metadata: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [*self.labels, *self.pod_labels, *self.static_labels]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise self.wrong(
                "labels", f"{twice[0]} is there twice, among labels, pod_labels and static_labels"
            )
        if not self.static_labels and "node" not in self.labels:
            raise self.wrong("static_labels", "is empty: a stream needs a label that is never empty")
        if len(names) > MAX_LABELS:
            raise self.wrong("labels", f"{len(names)} in all, and Loki takes {MAX_LABELS} at most")


class OtlpConfig(HttpSinkConfig, frozen=True, kw_only=True, tag="otlp"):
    """``type = "otlp"``: an OpenTelemetry Collector, or what else takes OTLP/HTTP logs in JSON.

    ``resource`` are attributes of all resources, ``pod_labels`` which labels of pods are; ``["*"]`` for all.
    """

    resource: Annotated[
        dict[AttributeName, Annotated[str, msgspec.Meta(max_length=4096)]], msgspec.Meta(max_length=64)
    ] = {}
    pod_labels: PodLabels = msgspec.field(default_factory=lambda: ["*"])


Facility = Literal[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip
"""In the order of their numbers, RFC 5424, table 1."""


class SyslogConfig(SinkConfig, frozen=True, kw_only=True, tag="syslog"):
    """``type = "syslog"``: RFC 5424, over TLS (RFC 5425) unless ``transport`` says otherwise.

    A message of more than ``max_message_bytes`` is cut there, and says how long it was. ``structured_data``
    is the SD-ID under which a record says whose it is; 32473 is the number for examples (RFC 5612). Empty for
    none. ``pod_labels``: which labels of pods are among it.
    """

    host: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:%-]{1,253}$")]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 6514
    transport: Literal["tls", "tcp", "udp"] = "tls"
    facility: Facility = "user"
    max_message_bytes: Annotated[int, msgspec.Meta(ge=480, le=65_000)] = 8192
    structured_data: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9._-]{1,16}@[0-9.]{1,15})?$")] = (
        "edgeagent@32473"
    )
    pod_labels: PodLabels = []

    def __post_init__(self) -> None:
        if self.transport != "tls" and self.tls != TlsConfig():
            raise ValueError(f'sink {self.name}: tls: is for transport = "tls", which this is not')


Sink = ElasticsearchConfig | LokiConfig | OtlpConfig | SyslogConfig


def check_names(sinks: list[Sink]) -> None:
    """ValueError where two sinks go by one name."""
    names = [sink.name for sink in sinks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"sinks: two are named {twice[0]}: what a sink has got is remembered by its name")
