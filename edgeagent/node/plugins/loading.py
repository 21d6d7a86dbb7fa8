"""Loading one plugin: import it, measure what that costs, check it against the contract and its config."""

import logging
import resource
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pluggy

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.decode import convert
from edgeagent.api.plugin import API_VERSION, PluginConfig, PluginInfo
from edgeagent.node.plugins.contract import PLUGIN_INFO
from edgeagent.node.plugins.discovery import Discovered
from edgeagent.node.plugins.target import (
    HookFunctions,
    PluginRefused,
    call_hook,
    config_schema,
    import_entry_point,
    register,
)

log = logging.getLogger(__name__)

MAX_WORKERS = 64
MAX_QUEUE = 100_000


class LoadedPlugin(msgspec.Struct, frozen=True):
    """A plugin that may be run. ``section`` is its config as written, ``config`` the same validated."""

    name: str
    entry_point: str
    plugin: object
    info: PluginInfo
    hooks: HookFunctions
    section: dict[str, object]
    config: PluginConfig


class Meter:
    """How much the resident memory of this process grew since it was made (proc(5), ``statm``).

    Its own and that of files apart: of files, the kernel takes back at any time what it likes.
    """

    def __init__(self) -> None:
        self._own, self._files = _resident()

    def grown(self) -> int:
        """Bytes, never negative."""
        own, files = _resident()
        return max(0, own - self._own) + max(0, files - self._files)


def _resident() -> tuple[int, int]:
    resident, files = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[1:3])
    page = resource.getpagesize()
    return (resident - files) * page, files * page


def split_section(name: str, section: Mapping[str, object]) -> tuple[bool, dict[str, object]]:
    """Whether ``[plugins.<name>]`` leaves the plugin enabled, and the section without that key."""
    rest = dict(section)
    enabled = rest.pop("enabled", True)
    if not isinstance(enabled, bool):
        raise PluginRefused(f"plugins.{name}.enabled: expected bool, got {type(enabled).__name__}")
    return enabled, rest


def load_plugin(manager: pluggy.PluginManager, found: Discovered, section: dict[str, object]) -> LoadedPlugin:
    """Import and check one plugin and register it; PluginRefused says why not, and nothing is registered."""
    name = found.name
    assert found.entry_point is not None
    try:
        plugin = import_entry_point(found.entry_point.value)
    except (Exception, SystemExit) as error:
        log.error("plugin %s cannot be imported", name, exc_info=error)
        raise PluginRefused(f"cannot be imported: {type(error).__name__}: {error}") from error
    hooks = register(manager, plugin, name)
    try:
        info = _info(hooks, name)
        config = _config(hooks, name, section)
    except PluginRefused:
        manager.unregister(name=name)
        raise
    return LoadedPlugin(name, found.entry_point.value, plugin, info, hooks, section, config)


def _info(hooks: HookFunctions, name: str) -> PluginInfo:
    if (implementation := hooks.get(PLUGIN_INFO)) is None:
        raise PluginRefused(f"it has no {PLUGIN_INFO}")
    try:
        info = call_hook(implementation)
    except (Exception, SystemExit) as error:
        raise PluginRefused(f"{PLUGIN_INFO} raised {type(error).__name__}: {error}") from error
    if not isinstance(info, PluginInfo):
        raise PluginRefused(f"{PLUGIN_INFO} answered with {type(info).__name__}, expected PluginInfo")
    if info.api_version != API_VERSION:
        written = f"it is written for version {info.api_version} of the plugin API"
        raise PluginRefused(f"{written}, this agent has version {API_VERSION}")
    try:
        # A struct's constructor checks no types: the round trip does.
        info = convert(msgspec.to_builtins(info), PluginInfo)
    except (InvalidObjectError, TypeError) as error:
        raise PluginRefused(f"{PLUGIN_INFO}: {error}") from error
    if info.name != name:
        raise PluginRefused(f"its entry point is named {name}, but {PLUGIN_INFO} says {info.name}")
    lane = info.lane
    for field, value, least, most in (
        ("workers", lane.workers, 1, MAX_WORKERS),
        ("queue", lane.queue, 0, MAX_QUEUE),
        ("idle_seconds", lane.idle_seconds, 0, 86400),
    ):
        if not least <= value <= most:
            raise PluginRefused(f"{PLUGIN_INFO}: lane.{field}: must be between {least} and {most}")
    return info


def _config(hooks: HookFunctions, name: str, section: dict[str, object]) -> PluginConfig:
    schema = config_schema(hooks)
    try:
        return convert(section, schema)
    except InvalidObjectError as error:
        raise PluginRefused(str(error.within(f"plugins.{name}"))) from error
    except Exception as error:  # a schema's own __post_init__ is plugin code
        raise PluginRefused(f"plugins.{name}: {type(error).__name__}: {error}") from error
