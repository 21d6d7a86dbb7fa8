"""What a command is about: kinds, names, a namespace, a selection."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from edgeagent.api.errors import InvalidObjectError
from edgeagent.api.objects.validate import validate_label
from edgeagent.cli.ctl.errors import UsageError
from edgeagent.cli.resources import Resource, find_resource


@dataclass(frozen=True, slots=True)
class Target:
    """What a command is about: a kind, and a name, empty for all of the kind."""

    resource: Resource
    name: str = ""

    @property
    def shown(self) -> str:
        """``pod/hello``."""
        return f"{self.resource.singular}/{self.name}"


def parse_targets(words: Sequence[str]) -> list[Target]:
    """``pods``, ``pods,cm``, ``pod hello web`` or ``pod/hello cm/settings`` as targets; raises UsageError."""
    if not words:
        raise UsageError("you must specify the type of resource, as in pods, nodes or pod/NAME")
    if any("/" in word for word in words):
        targets = []
        for word in words:
            kind, slash, name = word.partition("/")
            if slash and not (kind and name):
                raise UsageError(f"{word[:80]!r} is not TYPE/NAME, such as pod/web")
            if not slash or "/" in name:
                raise UsageError(
                    "there is no need to mix TYPE/NAME with other arguments: give all as TYPE/NAME"
                )
            targets.append(Target(find_resource(kind), check_name(name)))
        return targets
    resources = [find_resource(kind) for kind in words[0].split(",")]
    return [
        Target(resource, name)
        for resource in resources
        for name in (map(check_name, words[1:]) if words[1:] else [""])
    ]


def check_name(name: str) -> str:
    """``name``, if it can be that of an object; raises UsageError."""
    if not name or len(name) > 253 or any(c.isspace() or not c.isprintable() for c in name):
        raise UsageError(f"{name[:80]!r} is no name of an object")
    return name


def pod_name(word: str) -> str:
    """The name in ``web`` or ``pod/web``; raises UsageError."""
    if "/" not in word:
        return check_name(word)
    [target] = parse_targets([word])
    if target.resource.kind != "Pod":
        raise UsageError(f"{word!r} is no pod: give its name, or pod/NAME")
    return target.name


def parse_selection(options: argparse.Namespace) -> list[Target]:
    """The targets of a command that shows objects; raises UsageError where -A or -l contradicts a name."""
    targets = parse_targets(options.target)
    if options.all_namespaces and any(target.name for target in targets):
        raise UsageError("a resource cannot be retrieved by name across all namespaces")
    if options.selector and any(target.name for target in targets):
        raise UsageError("name cannot be provided when a selector is specified")
    return targets


def namespace_of(options: argparse.Namespace) -> str:
    """The namespace that was asked for, ``default`` where none was; raises UsageError."""
    namespace: str = options.namespace or "default"
    try:
        validate_label(namespace, "--namespace")
    except InvalidObjectError as error:
        raise UsageError(str(error)) from None
    return namespace


def scope_of(resource: Resource, options: argparse.Namespace) -> str:
    """The namespace to ask the hub for; empty for all of them, and where there are none."""
    everywhere = getattr(options, "all_namespaces", False) or not resource.namespaced
    return "" if everywhere else namespace_of(options)
