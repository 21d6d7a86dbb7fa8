"""Calling a plugin's code: the objects its hooks return, made at the first call and kept with the lane.

Used in the agent by thread lanes and in the child by process lanes; always off the agent's loop thread.
"""

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from functools import reduce
from inspect import isfunction
from pathlib import Path

import msgspec
import pluggy

from edgeagent.api import hookspecs
from edgeagent.api.descriptors import DescriptorHolder, is_open, release
from edgeagent.api.metrics import Gather
from edgeagent.api.plugin import PluginConfig, PluginContext
from edgeagent.node.plugins.contract import CONFIG_SCHEMA, PLUGIN_INFO, check_answer, hook_names
from edgeagent.node.plugins.faults import WrongAnswer

log = logging.getLogger(__name__)

HookFunctions = Mapping[str, "pluggy.HookImpl"]
"""A plugin's hook implementations by the name of the hook."""


class PluginRefused(Exception):
    """The plugin cannot be used; ``str()`` is the reason that a person is shown."""


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the hooks of the contract."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def import_entry_point(value: str) -> object:
    """The object that an entry point's value (``package.module`` or ``package.module:attribute``) names."""
    module, _, attributes = value.partition("[")[0].partition(":")
    found: object = importlib.import_module(module.strip())
    return reduce(getattr, filter(None, attributes.strip().split(".")), found)


def register(manager: pluggy.PluginManager, plugin: object, name: str) -> HookFunctions:
    """Register ``plugin`` and return its hooks; PluginRefused leaves nothing of it in the manager."""
    if (other := manager.get_name(plugin)) is not None:
        raise PluginRefused(f"its entry point names the same object as that of plugin {other}")
    try:
        manager.register(plugin, name)
        manager.check_pending()
        return _hooks_of(manager, plugin)
    except Exception as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        if isinstance(error, PluginRefused):
            raise
        raise PluginRefused(f"its hooks are not those of the contract: {_one_line(error)}") from error


def _hooks_of(manager: pluggy.PluginManager, plugin: object) -> HookFunctions:
    hooks: dict[str, pluggy.HookImpl] = {}
    for caller in manager.get_hookcallers(plugin) or []:
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            if implementation.hookwrapper or implementation.wrapper:
                raise PluginRefused(f"{caller.name} is a wrapper: it may not wrap what other plugins do")
            if caller.name in hooks:
                raise PluginRefused(f"{caller.name} is implemented twice")
            hooks[caller.name] = implementation
    for name in hook_names() - hooks.keys():
        if isfunction(getattr(plugin, name, None)):
            raise PluginRefused(f"{name} is not marked with hookimpl")
    return hooks


def call_hook(implementation: "pluggy.HookImpl", **arguments: object) -> object:
    """Call one plugin's implementation with those of ``arguments`` that it asks for."""
    return implementation.function(*(arguments[name] for name in implementation.argnames))


def config_schema(hooks: HookFunctions) -> type[PluginConfig]:
    """The struct that the plugin's section is validated as."""
    if (implementation := hooks.get(CONFIG_SCHEMA)) is None:
        return PluginConfig
    try:
        schema = call_hook(implementation)
    except Exception as error:
        raise PluginRefused(f"{CONFIG_SCHEMA} raised {_one_line(error)}") from error
    if not (isinstance(schema, type) and issubclass(schema, PluginConfig)):
        shown = schema.__name__ if isinstance(schema, type) else type(schema).__name__
        raise PluginRefused(f"{CONFIG_SCHEMA} answered with {shown}, expected a subclass of PluginConfig")
    return schema


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where the plugin is: the parts of its context that its config does not decide."""

    node_name: str
    cluster: str
    state_dir: str
    run_dir: str
    identity_dir: str

    def context(self, config: PluginConfig, *, gather: Gather | None = None) -> PluginContext:
        """The context for a hook. Makes the plugin's folders; OSError where that fails."""
        for folder in (self.state_dir, self.run_dir):
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        return PluginContext(
            node_name=self.node_name,
            cluster=self.cluster,
            state_dir=Path(self.state_dir),
            run_dir=Path(self.run_dir),
            identity_dir=Path(self.identity_dir),
            config=config,
            gather=gather,
        )


class Targets:
    """What the plugin's hooks returned, one object a hook. Methods may be called from several threads."""

    def __init__(self, hooks: HookFunctions, make_context: Callable[[], PluginContext]) -> None:
        self._hooks = hooks
        self._make_context = make_context
        self._made: dict[str, object] = {}
        self._making = threading.Lock()

    def invoke(self, hook: str, method: str, args: tuple[object, ...]) -> object:
        """Call ``method`` of what ``hook`` returned. Raises what the plugin raises, or WrongAnswer."""
        target = self._target(hook)
        function = getattr(target, method, None)
        if not callable(function):
            raise WrongAnswer(f"{hook} answered with {type(target).__name__}, which has no method {method}")
        value: object = function(*args)
        try:
            check_answer(value, hook, method)
            if isinstance(value, DescriptorHolder) and not is_open(value):
                raise WrongAnswer(f"{method} answered without an open file descriptor")
        except BaseException:
            release(value)
            raise
        return value

    def prepare(self) -> None:
        """Call every hook that makes something, ahead of the first call; what fails, a call will meet."""
        for hook in self._hooks:
            if hook not in (PLUGIN_INFO, CONFIG_SCHEMA):
                try:
                    self._target(hook)
                except Exception as error:  # plugin code: the call that needs it raises the same
                    log.debug("%s is not ready yet: %s", hook, error)

    def _target(self, hook: str) -> object:
        with self._making:
            if hook not in self._made:
                target = call_hook(self._hooks[hook], ctx=self._make_context())
                if target is None:
                    raise WrongAnswer(f"{hook} answered with None")
                self._made[hook] = target
            return self._made[hook]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
