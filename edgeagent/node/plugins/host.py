"""PluginHost: all plugins of an agent, from discovery to stop. The core talks to plugins through it alone."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

from edgeagent.api.clock import Clock
from edgeagent.api.metrics import Gather
from edgeagent.api.objects.node import PluginStatus
from edgeagent.node.plugins.discovery import Discovered, discover
from edgeagent.node.plugins.facades import (
    AdmissionFacade,
    Facade,
    MissingAdmission,
    NetworkFacade,
    NodeFactsFacade,
    RuntimeFacade,
    UnsealerFacade,
)
from edgeagent.node.plugins.hosted import HostedPlugin
from edgeagent.node.plugins.loading import Meter, load_plugin, split_section
from edgeagent.node.plugins.target import Place, PluginRefused, new_manager
from edgeagent.node.plugins.telemetryfacades import (
    CollectorsFacade,
    ExportersFacade,
    LogSinksFacade,
    LogSourceFacade,
)

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Facade)


class PluginHost:
    """Loads plugins, hands out typed facades in pluggy's call order, runs services, tells how all are.

    ``entry_points`` takes the place of what is installed. ``on_change`` is called on the loop thread
    whenever a plugin's state or reason changes after ``load``. ``gather`` is handed to plugins in thread
    lanes. Used from one thread.
    """

    def __init__(
        self,
        config_sections: Mapping[str, Mapping[str, object]],
        *,
        node_name: str,
        cluster: str,
        state_dir: Path,
        run_dir: Path,
        identity_dir: Path,
        clock: Clock,
        random: Random,
        on_change: Callable[[], None],
        gather: Gather | None = None,
        entry_points: Iterable[EntryPoint] | None = None,
    ) -> None:
        self._sections = config_sections
        self._node_name = node_name
        self._cluster = cluster
        self._state_dir = state_dir
        self._run_dir = run_dir
        self._identity_dir = identity_dir
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._gather = gather
        self._entry_points = entry_points
        self._manager = new_manager()
        self._hosted: dict[str, HostedPlugin] = {}
        self._listed: list[HostedPlugin | PluginStatus] = []
        self._facades: dict[tuple[str, str], Facade] = {}

    def load(self) -> None:
        """Find, import and check all plugins that are not disabled. Call once; no plugin makes it raise."""
        found = discover(self._entry_points)
        for one in found:
            self._listed.append(self._load_one(one))
        known = {one.name for one in found}
        for name in sorted(set(self._sections) - known):
            self._unknown_section(name)
        for entry in self._listed:
            if isinstance(entry, PluginStatus) and entry.state == "Failed":
                log.error("plugin %s (%s) is not used: %s", entry.name, entry.distribution, entry.reason)

    def _load_one(self, found: Discovered) -> HostedPlugin | PluginStatus:
        memory = 0
        try:
            enabled, section = split_section(found.name, self._sections.get(found.name, {}))
            if not enabled:
                return _absent(found, "Stopped", f"disabled: plugins.{found.name}.enabled is false")
            if found.problem:
                raise PluginRefused(found.problem)
            meter = Meter()
            try:
                loaded = load_plugin(self._manager, found, section)
            finally:
                memory = meter.grown()
            hosted = HostedPlugin(
                found,
                loaded,
                self._place(found.name),
                memory_bytes=memory,
                clock=self._clock,
                random=self._random,
                on_change=self._on_change,
                gather=self._gather,
            )
        except PluginRefused as error:
            return _absent(found, "Failed", str(error), memory_bytes=memory)
        self._hosted[found.name] = hosted
        return hosted

    def _place(self, name: str) -> Place:
        return Place(
            self._node_name,
            self._cluster,
            str(self._state_dir / name),
            str(self._run_dir / name),
            str(self._identity_dir),
        )

    def _unknown_section(self, name: str) -> None:
        missing = Discovered(name, "", "", None)
        try:
            enabled, _ = split_section(name, self._sections[name])
            reason = f"plugins.{name}: no plugin of this name is installed"
        except PluginRefused as error:
            enabled, reason = True, str(error)
        if enabled:
            self._listed.append(_absent(missing, "Failed", reason))

    async def start(self) -> None:
        """Begin to supervise the plugins' services; does not wait for them."""
        for plugin in self._hosted.values():
            plugin.start_service()

    async def stop(self) -> None:
        """Stop services and lanes, the plugin that was loaded last first."""
        for plugin in reversed(list(self._hosted.values())):
            await plugin.stop()

    def statuses(self) -> list[PluginStatus]:
        """Every plugin that was found, by name, those not loaded included, with the reason."""
        return [entry.status() if isinstance(entry, HostedPlugin) else entry for entry in self._listed]

    def hosted(self) -> Collection[HostedPlugin]:
        """The plugins that are loaded, for a look at their lanes."""
        return self._hosted.values()

    def runtime(self) -> RuntimeFacade | None:
        """The first container runtime in call order."""
        return self._first(RuntimeFacade)

    def network(self) -> NetworkFacade | None:
        """The first pod network in call order."""
        return self._first(NetworkFacade)

    def unsealer(self) -> UnsealerFacade | None:
        """The first unsealer in call order."""
        return self._first(UnsealerFacade)

    def admissions(self, required: Collection[str] = ()) -> list[AdmissionFacade]:
        """All admission plugins in call order.

        One of those ``required`` that could not be loaded, and is not disabled, answers no question.
        """
        missing = [
            MissingAdmission(one.name, one.reason)
            for one in self._listed
            if isinstance(one, PluginStatus) and one.state == "Failed" and one.name in required
        ]
        return [*self._all(AdmissionFacade), *missing]

    def node_facts(self) -> list[NodeFactsFacade]:
        """All sources of node facts in call order."""
        return self._all(NodeFactsFacade)

    def log_sources(self) -> list[LogSourceFacade]:
        """All that follow logs, in call order."""
        return self._all(LogSourceFacade)

    def log_sinks(self) -> list[LogSinksFacade]:
        """All that ship logs, in call order."""
        return self._all(LogSinksFacade)

    def collectors(self) -> list[CollectorsFacade]:
        """All sources of metrics, in call order."""
        return self._all(CollectorsFacade)

    def exporters(self) -> list[ExportersFacade]:
        """All that send metrics, in call order."""
        return self._all(ExportersFacade)

    def _first(self, kind: type[F]) -> F | None:
        return next(iter(self._all(kind)), None)

    def _all(self, kind: type[F]) -> list[F]:
        """Pluggy keeps implementations in the reverse of the order that it calls them in."""
        implementations = getattr(self._manager.hook, kind.hook).get_hookimpls()
        return [self._facade(kind, one.plugin_name) for one in reversed(implementations)]

    def _facade(self, kind: type[F], name: str) -> F:
        facade = self._facades.get((kind.hook, name))
        if not isinstance(facade, kind):
            facade = self._facades[kind.hook, name] = kind(self._hosted[name])
        return facade


def _absent(
    found: Discovered, state: Literal["Failed", "Stopped"], reason: str, *, memory_bytes: int = 0
) -> PluginStatus:
    return PluginStatus(
        name=found.name,
        distribution=found.distribution,
        version=found.version,
        state=state,
        reason=reason,
        lane="",
        memory_bytes=memory_bytes,
    )
