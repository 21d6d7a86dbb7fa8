"""``[[plugins.metrics.remote_write]]``: where metrics are sent to, and as whom."""

from typing import Annotated

import msgspec

from edgeagent.api.plugin import PluginConfig

FilePath = Annotated[str, msgspec.Meta(pattern=r"^(/[^\x00]*)?$", max_length=4096)]
"""Absolute, or empty for none."""
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")]
Header = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,100}$")]
HeaderValue = Annotated[str, msgspec.Meta(pattern=r"^[\x20-\x7e]{0,4096}$")]
LabelName = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=100)]
MAX_TARGETS = 10
_OURS = frozenset({"authorization", "content-encoding", "content-length", "content-type", "host"})


class RemoteWriteConfig(PluginConfig, frozen=True):
    """One receiver. ``name`` stands for it for ever: what it has got is remembered by it.

    ``external_labels`` are added to all series that do not have them; ``job`` and ``instance`` are
    ``edgeagent`` and the node's name unless they are given here, empty for none. Secrets are in files,
    read for each request, and sent over plain ``http`` only with ``plain_credentials``. ``timeout_seconds``
    is for one request.
    """

    name: Name
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+$", max_length=2048)]
    headers: dict[Header, HeaderValue] = {}
    ca_file: FilePath = ""
    certificate_file: FilePath = ""
    key_file: FilePath = ""
    username: Annotated[str, msgspec.Meta(pattern=r"^[^:\x00-\x1f]*$", max_length=256)] = ""
    password_file: FilePath = ""
    token_file: FilePath = ""
    plain_credentials: bool = False
    external_labels: dict[LabelName, Annotated[str, msgspec.Meta(max_length=1024)]] = {}
    timeout_seconds: Annotated[float, msgspec.Meta(ge=1, le=25)] = 20.0

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file belong together: give both, or neither")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file belong together: give both, or neither")
        if self.username and self.token_file:
            raise ValueError("there can be username and password_file, or token_file, not both")
        secret = "password_file" if self.password_file else "token_file" if self.token_file else ""
        if secret and self.url.startswith("http:") and not self.plain_credentials:
            problem = "would be sent in clear over http: use https, or set plain_credentials = true"
            raise ValueError(f"{self.name}: {secret}: {problem}")
        for header in self.headers:
            if header.lower() in _OURS or header.lower().startswith("x-prometheus-"):
                raise ValueError(f"headers: {header} cannot be set here")


def check_names(targets: list[RemoteWriteConfig]) -> None:
    """ValueError where two have one name."""
    names = [one.name for one in targets]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"remote_write: there are two of the name {repeated[0]}")
