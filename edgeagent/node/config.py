"""The agent's own configuration: one TOML file, every key checked, every default in one place."""

from pathlib import Path
from typing import Annotated

import msgspec

from edgeagent.api.errors import InvalidObjectError, PermanentError
from edgeagent.api.objects.decode import convert


class AgentSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[agent]``. ``resync_seconds``: how often everything is looked at anew, changes apart."""

    state_dir: str = "/var/lib/edgeagent"
    run_dir: str = "/run/edgeagent"
    resync_seconds: Annotated[float, msgspec.Meta(ge=10)] = 1800.0
    log_level: str = "info"


class MqttSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[mqtt]``. ``brokers`` (``host:port``) takes the place of the join file's where it is not empty."""

    brokers: list[str] = []
    tls: bool = True
    keepalive_seconds: Annotated[int, msgspec.Meta(ge=5, le=3600)] = 120
    session_expiry_seconds: Annotated[int, msgspec.Meta(ge=0)] = 0
    reconnect_ceiling_seconds: Annotated[float, msgspec.Meta(gt=0)] = 120.0


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``plugins`` holds one section a plugin, validated by the plugin's own schema."""

    agent: AgentSection = AgentSection()
    mqtt: MqttSection = MqttSection()
    plugins: dict[str, dict[str, object]] = {}

    @property
    def state_dir(self) -> Path:
        """Where the store and the identity lie."""
        return Path(self.agent.state_dir)

    @property
    def run_dir(self) -> Path:
        """Where the local socket lies."""
        return Path(self.agent.run_dir)


def load_config(path: Path, *, required: bool) -> AgentConfig:
    """The file as a checked config; the defaults where there is no file and it is not ``required``.

    PermanentError names file, and key or line, of what is wrong.
    """
    import tomllib

    try:
        text = path.read_text()
    except FileNotFoundError:
        if required:
            raise PermanentError(f"{path} does not exist") from None
        return AgentConfig()
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{path} cannot be read: {error}") from None
    try:
        return convert(tomllib.loads(text), AgentConfig)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PermanentError(f"{path}: {error}") from None
    except InvalidObjectError as error:
        raise PermanentError(f"{path}: {error}") from None
