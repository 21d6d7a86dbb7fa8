"""What a plugin says of itself, and what it is handed."""

from pathlib import Path
from typing import Literal

import msgspec

from edgeagent.api.metrics import Gather

API_VERSION = 1
"""The version of everything in ``edgeagent.api``. A plugin that names another is refused."""


class LaneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the core runs the plugin's code, always off its loop thread.

    ``thread`` keeps the plugin in the agent's process. ``process`` runs it in a child that is started
    by the first call and ends after ``idle_seconds`` without one: for plugins whose libraries are too
    heavy to be held all day. ``workers`` calls run at once, ``queue`` more may wait;
    a further one is refused.
    """

    isolation: Literal["thread", "process"] = "thread"
    workers: int = 1
    queue: int = 64
    idle_seconds: float = 30.0


class PluginInfo(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` is the plugin's own, and that of its config section ``[plugins.<name>]``."""

    name: str
    version: str
    summary: str
    api_version: int = API_VERSION
    lane: LaneSpec = LaneSpec()


class PluginConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a plugin's config struct: unknown keys and ill-typed values are refused by name."""


class PluginContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a hook is handed: who the node is, where the plugin may write, and its validated config.

    ``state_dir`` outlives a reboot, ``run_dir`` does not; both exist. ``identity_dir`` holds the node's
    keys and certificates. ``config`` is an instance of what ``edgeagent_config_schema`` returned.
    ``gather`` asks all collectors, for a thread that the plugin has made itself; None in a process lane.
    """

    node_name: str
    cluster: str
    state_dir: Path
    run_dir: Path
    identity_dir: Path
    config: PluginConfig = PluginConfig()
    gather: Gather | None = None
