"""Credentials in files: read anew for each request, so that a changed one counts at once, and never shown."""

import base64
from pathlib import Path

from edgeagent.api.errors import PermanentError
from edgeagent_logs.sinkconfig import ElasticsearchConfig, HttpSinkConfig

MAX_BYTES = 65_536


def read_secret(path: str) -> str:
    """The one line that the file holds; PermanentError, which names it, where it holds none."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PermanentError(
            f"cannot read {path}: {error.strerror}", reason="CredentialsUnreadable"
        ) from None
    line = data.rstrip(b"\r\n")
    if not line or len(data) > MAX_BYTES or any(byte < 0x20 or byte == 0x7F for byte in line):
        problem = f"{path} must hold one line of at most {MAX_BYTES} bytes, and nothing else"
        raise PermanentError(problem, reason="CredentialsUnreadable")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise PermanentError(f"{path} is not UTF-8", reason="CredentialsUnreadable") from None


def read_header(path: str) -> str:
    """``read_secret`` for what goes into a header as it is: ASCII (RFC 9110, 5.5)."""
    if not (value := read_secret(path)).isascii():
        raise PermanentError(f"{path} must hold ASCII alone", reason="CredentialsUnreadable")
    return value


class Credentials:
    """The headers that say who this node is, and what must be in no message."""

    def __init__(self, config: HttpSinkConfig) -> None:
        self._config = config
        self._seen: tuple[str, ...] = ()

    def headers(self) -> dict[str, str]:
        """What is to be sent now; PermanentError where a file cannot be read."""
        config, headers, seen = self._config, {}, []
        if config.password_file:
            password = read_secret(config.password_file)
            token = base64.b64encode(f"{config.username}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
            seen += [password, token]
        if config.bearer_token_file:
            seen.append(read_header(config.bearer_token_file))
            headers["Authorization"] = f"Bearer {seen[-1]}"
        if isinstance(config, ElasticsearchConfig) and config.api_key_file:
            seen.append(read_header(config.api_key_file))
            headers["Authorization"] = f"ApiKey {seen[-1]}"
        for name, path in config.header_files.items():
            headers[name] = read_header(path)
            seen.append(headers[name])
        self._seen = tuple(sorted(seen, key=len, reverse=True))
        return headers

    def hide(self, text: str) -> str:
        """``text`` without what was sent, should the other side repeat it."""
        for secret in self._seen:
            text = text.replace(secret, "***")
        return text
