"""``edgectl``: kubectl's commands for a cluster of edge nodes, over MQTT.

Messages, columns and exit codes are kubectl's. What is heavy (YAML, MQTT, cryptography) is imported by the
command that needs it, so that help and usage errors come at once.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import edgeagent
from edgeagent.api.clock import SystemClock
from edgeagent.api.errors import EdgeAgentError, InvalidObjectError, TemporaryError
from edgeagent.api.objects.decode import KubernetesObject, decode_object_json
from edgeagent.api.objects.event import Event
from edgeagent.api.objects.pod import Pod
from edgeagent.api.objects.validate import validate_label
from edgeagent.cli.output import (
    FORMATS,
    OutputFormat,
    Resource,
    Table,
    UnknownKindError,
    escape,
    find_resource,
    format_json,
    format_yaml,
    name_of,
    print_objects,
    resource_of,
    wants_colour,
)

if TYPE_CHECKING:
    import msgspec

    from edgeagent.cli.hubclient import HubClient
    from edgeagent.cli.manifests import Manifest
    from edgeagent.wire.hubapi import WatchEvent
    from edgeagent.wire.rpc import RpcError

DEFAULT_CONFIG = "~/.config/edgeagent/operator.json"
INTERRUPTED = 130
BROKEN_PIPE = 141
PATIENCE_SECONDS = 2.0
"""After this long a person at a terminal is told what is being waited for."""
REWATCH_SECONDS = 1.0
"""The pause before a watch that ended at once is asked for again."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", re.ASCII)
_LABEL_PAIR = re.compile(r"(?P<key>[^\s=!,()]+)\s*==?\s*(?P<value>[^\s=!,()]*)")


class UsageError(EdgeAgentError):
    """The command line makes no sense."""


class CommandError(EdgeAgentError):
    """The command could not be done; the message is printed as it stands. Empty: it was printed already."""


# Small readers of arguments -----------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """``90``, ``10s``, ``1m30s`` or ``2h`` in seconds; raises ArgumentTypeError."""
    if text.isascii() and text.isdecimal():
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration (such as 10s or 1m30s)")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def parse_selector(text: str) -> dict[str, str]:
    """``app=web,tier==front`` as a mapping; raises ArgumentTypeError for any other selector."""
    labels: dict[str, str] = {}
    for part in text.split(","):
        match = _LABEL_PAIR.fullmatch(part.strip())
        if match is None:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not KEY=VALUE (other selectors are not known here)"
            )
        if labels.setdefault(match["key"], match["value"]) != match["value"]:
            raise argparse.ArgumentTypeError(f"{match['key']!r} cannot equal two values")
    return labels


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _grace(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)


def _tail(text: str) -> int | None:
    if text == "-1":
        return None
    return _grace(text)


@dataclass(frozen=True, slots=True)
class Target:
    """What a command is about: a kind, and a name, empty for all of the kind."""

    resource: Resource
    name: str = ""


def parse_targets(words: Sequence[str]) -> list[Target]:
    """``pods``, ``pods,cm``, ``pod hello web`` or ``pod/hello cm/settings`` as targets; raises UsageError."""
    if not words:
        raise UsageError("you must specify the type of resource, as in pods, nodes or pod/NAME")
    if any("/" in word for word in words):
        targets = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not (kind and slash and name) or "/" in name:
                raise UsageError(
                    "there is no need to mix TYPE/NAME with other arguments: give all as TYPE/NAME"
                )
            targets.append(Target(find_resource(kind), _name(name)))
        return targets
    resources = [find_resource(kind) for kind in words[0].split(",")]
    return [
        Target(resource, name)
        for resource in resources
        for name in (map(_name, words[1:]) if words[1:] else [""])
    ]


def _name(name: str) -> str:
    if not name or len(name) > 253 or any(c.isspace() or not c.isprintable() for c in name):
        raise UsageError(f"{name[:80]!r} is no name of an object")
    return name


# The commands -------------------------------------------------------------------------------------


def _apply(options: argparse.Namespace) -> int:
    manifests = _manifests(options)
    if options.dry_run == "client":
        for manifest in manifests:
            print(f"{name_of(manifest.object)} created (dry run)")
        return 0
    return _with_hub(options, lambda hub: _apply_to(hub, manifests, dry_run=options.dry_run == "server"))


async def _apply_to(hub: "HubClient", manifests: "list[Manifest]", *, dry_run: bool) -> int:
    import msgspec

    from edgeagent.wire.canonical import canonical_json
    from edgeagent.wire.rpc import RpcError

    try:
        result = await hub.apply([msgspec.Raw(canonical_json(m.object)) for m in manifests], dry_run=dry_run)
    except RpcError as error:
        source = _source_of(str(error), manifests)
        raise CommandError(_server_error(error) + (f" (from {escape(source)})" if source else "")) from None
    suffix = " (server dry run)" if dry_run else ""
    for applied in result.applied:
        print(f"{escape(applied.kind.lower())}/{escape(applied.name)} {applied.action}{suffix}")
    return 0


def _source_of(message: str, manifests: "list[Manifest]") -> str:
    """Where the object was written that a message of the hub begins with; empty where it names none."""
    if (numbered := re.match(r"document (\d{1,6})\b", message)) and 0 < int(numbered[1]) <= len(manifests):
        return manifests[int(numbered[1]) - 1].source
    named = re.match(r"(\w+) ([^\s/]+)/(\S+)", message)
    return next((m.source for m in manifests if named and m.key == named.groups()), "")


def _manifests(options: argparse.Namespace) -> "list[Manifest]":
    from edgeagent.cli.manifests import ManifestError, read_manifests

    try:
        return read_manifests(
            options.filename,
            namespace=options.namespace or "default",
            enforce_namespace=bool(options.namespace),
            recursive=options.recursive,
        )
    except ManifestError as error:
        raise CommandError("\n".join(f"error: {escape(problem)}" for problem in error.problems)) from None


def _get(options: argparse.Namespace) -> int:
    targets = parse_targets(options.target)
    if options.all_namespaces and any(target.name for target in targets):
        raise UsageError("a resource cannot be retrieved by name across all namespaces")
    if options.selector and any(target.name for target in targets):
        raise UsageError("name cannot be provided when a selector is specified")
    if options.watch and len({target.resource.kind for target in targets}) + len(targets) > 2:
        raise UsageError("you may only specify a single resource type, and one name, to watch")
    if options.watch:
        return _with_hub(options, lambda hub: _watch_objects(hub, targets[0], options))
    return _with_hub(options, lambda hub: _get_objects(hub, targets, options))


async def _get_objects(hub: "HubClient", targets: Sequence[Target], options: argparse.Namespace) -> int:
    from edgeagent.wire.rpc import RpcError

    found: list[KubernetesObject] = []
    failed = False
    for target in targets:
        try:
            found += await _fetch(hub, target, options)
        except RpcError as error:
            failed = True
            _complain(_server_error(error, target))
    single = len(targets) == 1 and bool(targets[0].name)
    output: OutputFormat = options.output
    if found or (output in ("json", "yaml") and not failed):
        print_objects(
            found,
            out=sys.stdout,
            now=SystemClock().now(),
            output=output,
            single=single,
            headers=not options.no_headers,
            with_namespace=options.all_namespaces,
            with_kind=len({target.resource.kind for target in targets}) > 1,
            colour=wants_colour(sys.stdout),
        )
    elif not failed:
        everywhere = options.all_namespaces or not any(target.resource.namespaced for target in targets)
        where = "" if everywhere else f" in {_namespace(options)} namespace."
        _complain(f"No resources found{where}")
    return 1 if failed else 0


async def _fetch(hub: "HubClient", target: Target, options: argparse.Namespace) -> list[KubernetesObject]:
    raw = await hub.get(
        target.resource.kind,
        namespace=_scope(target.resource, options),
        name=target.name,
        labels=getattr(options, "selector", None),
    )
    return [_decode(item) for item in raw]


def _decode(raw: "msgspec.Raw") -> KubernetesObject:
    try:
        return decode_object_json(bytes(raw))
    except InvalidObjectError as error:
        raise CommandError(f"error: the hub's answer cannot be read (another version?): {error}") from None


class _WatchPrinter:
    """Prints objects when they are new or changed, and once more when they go."""

    def __init__(self, target: Target, options: argparse.Namespace) -> None:
        self._output: OutputFormat = options.output
        self._known: dict[str, KubernetesObject] = {}
        self._documents = 0
        self._table = Table(
            target.resource,
            wide=self._output == "wide",
            headers=not options.no_headers,
            with_namespace=options.all_namespaces,
            colour=wants_colour(sys.stdout),
        )

    def listed(self, items: Sequence[KubernetesObject]) -> None:
        """All that exists now: prints what differs from what was known."""
        present = {_identity(item) for item in items}
        gone = [self._known.pop(key) for key in list(self._known) if key not in present]
        fresh = [item for item in items if not self._is_known(item)]
        self._known |= {_identity(item): item for item in items}
        self._print([*gone, *fresh])

    def event(self, kind: str, item: KubernetesObject) -> None:
        """One change."""
        if kind == "DELETED":
            if self._known.pop(_identity(item), None) is not None:
                self._print([item])
        elif not self._is_known(item):
            self._known[_identity(item)] = item
            self._print([item])

    def _is_known(self, item: KubernetesObject) -> bool:
        """Whether this state of the object, or a later one, was printed.

        A status changes without the version, so that only an older version is surely the past.
        """
        known = self._known.get(_identity(item))
        if known is None or known == item:
            return known is not None
        versions = item.metadata.resource_version, known.metadata.resource_version
        return all(version.isdecimal() for version in versions) and int(versions[0]) < int(versions[1])

    def _print(self, items: Sequence[KubernetesObject]) -> None:
        if not items:
            return
        if self._output == "json":
            sys.stdout.writelines(format_json(item) for item in items)
        elif self._output == "yaml":
            for item in items:
                sys.stdout.write(("---\n" if self._documents else "") + format_yaml(item))
                self._documents += 1
        elif self._output == "name":
            sys.stdout.writelines(f"{name_of(item)}\n" for item in items)
        else:
            sys.stdout.writelines(f"{line}\n" for line in self._table.lines(items, SystemClock().now()))
        sys.stdout.flush()


def _identity(item: KubernetesObject) -> str:
    meta = item.metadata
    return meta.uid or f"{meta.namespace}/{meta.name}"


async def _watch_objects(hub: "HubClient", target: Target, options: argparse.Namespace) -> int:
    """Print the objects, then every change, until interrupted; a lost connection is taken up again."""
    from edgeagent.wire.rpc import RpcError

    printer = _WatchPrinter(target, options)
    first, troubled = True, False
    while True:
        began = SystemClock().monotonic()
        try:
            # The watch first, then the list: nothing can happen unseen between the two.
            async with hub.watch(
                target.resource.kind,
                namespace=_scope(target.resource, options),
                name=target.name,
                labels=options.selector,
            ) as events:
                try:
                    printer.listed(await _fetch(hub, target, options))
                except RpcError as error:
                    if first or error.reason != "NotFound":
                        raise CommandError(_server_error(error, target)) from None
                    printer.listed([])
                if troubled:
                    _complain("watching again")
                first = troubled = False
                async for event in events:
                    printer.event(event.type, _decode(event.object))
        except RpcError as error:
            raise CommandError(_server_error(error, target)) from None
        except TemporaryError as error:
            if first:
                raise
            if not troubled and error.reason != "Gap":
                troubled = True
                _complain(f"{escape(str(error))}; trying again")
            await hub.connected()
        await asyncio.sleep(max(0.0, REWATCH_SECONDS - (SystemClock().monotonic() - began)))


def _describe(options: argparse.Namespace) -> int:
    targets = parse_targets(options.target)
    if options.all_namespaces and any(target.name for target in targets):
        raise UsageError("a resource cannot be retrieved by name across all namespaces")
    if options.selector and any(target.name for target in targets):
        raise UsageError("name cannot be provided when a selector is specified")
    return _with_hub(options, lambda hub: _describe_objects(hub, targets, options))


async def _describe_objects(hub: "HubClient", targets: Sequence[Target], options: argparse.Namespace) -> int:
    from edgeagent.cli.describe import describe, events_of
    from edgeagent.wire.rpc import RpcError

    failed = False
    pages: list[str] = []
    for target in targets:
        try:
            found = await _fetch(hub, target, options)
            scope = _scope(target.resource, options)
            events = [_decode(raw) for raw in await hub.get("Event", namespace=scope)] if found else []
            nodes = target.resource.kind == "Node" and bool(found)
            pods = [_decode(raw) for raw in await hub.get("Pod")] if nodes else []
        except RpcError as error:
            failed = True
            _complain(_server_error(error, target))
            continue
        for item in found:
            on_node = [
                pod for pod in pods if isinstance(pod, Pod) and pod.spec.node_name == item.metadata.name
            ]
            about = events_of(item, [event for event in events if isinstance(event, Event)])
            pages.append(describe(item, events=about, pods=on_node, now=SystemClock().now()))
    sys.stdout.write("\n\n".join(pages))
    if not pages and not failed:
        where = f" in {_namespace(options)} namespace." if any(t.resource.namespaced for t in targets) else ""
        _complain(f"No resources found{where}")
    return 1 if failed else 0


def _delete(options: argparse.Namespace) -> int:
    if bool(options.target) == bool(options.filename):
        raise UsageError("give either a kind and a name, or -f FILE")
    if options.force and options.grace_period:
        raise UsageError("--force and a --grace-period greater than 0 cannot be specified together")
    if options.filename:
        doomed = [
            (Target(resource_of(m.object), m.object.metadata.name), m.object.metadata.namespace)
            for m in _manifests(options)
        ]
    else:
        targets = parse_targets(options.target)
        if any(target.name for target in targets) and (options.all or options.selector):
            raise UsageError("a name cannot be given together with --all or a selector")
        if not all(target.name for target in targets) and not (options.all or options.selector):
            raise UsageError("resource(s) were provided, but no name was specified")
        doomed = [(target, _scope(target.resource, options)) for target in targets]
    return _with_hub(options, lambda hub: _delete_all(hub, doomed, options))


async def _delete_all(
    hub: "HubClient", doomed: Sequence[tuple[Target, str]], options: argparse.Namespace
) -> int:
    from edgeagent.wire.rpc import RpcError

    named: list[tuple[Target, str]] = []
    for target, namespace in doomed:
        if target.name:
            named.append((target, namespace))
            continue
        found = await _fetch(hub, target, options)
        named += [(Target(target.resource, item.metadata.name), item.metadata.namespace) for item in found]
    if not named:
        _complain("No resources found")
        return 0
    if options.force:
        _complain(
            "warning: Immediate deletion does not wait for confirmation that the running resource has been "
            "terminated. The resource may continue to run on the node."
        )
    failed = False
    deadline = asyncio.get_running_loop().time() + options.timeout if options.timeout else None
    async with contextlib.AsyncExitStack() as stack:
        waiting = []
        for target, namespace in named:
            try:
                waiting.append(await _delete_one(hub, target, namespace, options, stack))
            except RpcError as error:
                if error.reason == "NotFound" and options.ignore_not_found:
                    continue
                failed = True
                _complain(_server_error(error, target))
        for wait in waiting:
            if wait is None:
                continue
            target, gone = wait
            try:
                async with (
                    asyncio.timeout_at(deadline),
                    _patience(f"waiting for {_shown(target)} to be gone"),
                ):
                    await gone()
            except TimeoutError:
                failed = True
                _complain(
                    f"error: timed out waiting for the condition on {target.resource.plural}/{target.name}"
                )
    return 1 if failed else 0


async def _delete_one(
    hub: "HubClient",
    target: Target,
    namespace: str,
    options: argparse.Namespace,
    stack: contextlib.AsyncExitStack,
) -> tuple[Target, Callable[[], Awaitable[None]]] | None:
    """Delete one object; what to await until it is gone, or None where there is nothing to wait for."""
    kind, name = target.resource.kind, target.name
    events: AsyncIterator[WatchEvent] | None = None
    wants_to_wait = options.wait and not options.force and target.resource.kind == "Pod"
    watching = contextlib.AsyncExitStack()
    try:
        if wants_to_wait:
            # Before the delete, so that its end cannot be missed.
            events = await watching.enter_async_context(hub.watch(kind, namespace=namespace, name=name))
        grace = 0 if options.force and options.grace_period is None else options.grace_period
        result = await hub.delete(kind, namespace, name, grace_period_seconds=grace, force=options.force)
    except BaseException:
        await watching.aclose()
        raise
    print(
        f'{target.resource.singular} "{escape(name)}" {"force deleted" if options.force else "deleted"}',
        flush=True,
    )
    if result.state == "deleted" or not options.wait or options.force:
        await watching.aclose()
        return None
    stack.push_async_callback(watching.aclose)
    return target, functools.partial(_gone, hub, target, namespace, result.uid, events)


async def _gone(
    hub: "HubClient", target: Target, namespace: str, uid: str, events: "AsyncIterator[WatchEvent] | None"
) -> None:
    """Return once the object of this uid is gone, or another has taken its name."""
    from edgeagent.wire.rpc import RpcError

    kind, name = target.resource.kind, target.name
    if events is not None:
        with contextlib.suppress(TemporaryError):
            if await _saw_end(events, uid):
                return
    while True:
        await hub.connected()
        with contextlib.suppress(TemporaryError):
            async with hub.watch(kind, namespace=namespace, name=name) as again:
                try:
                    present = [_decode(raw) for raw in await hub.get(kind, namespace=namespace, name=name)]
                except RpcError as error:
                    if error.reason == "NotFound":
                        return
                    raise
                if all(item.metadata.uid != uid for item in present) or await _saw_end(again, uid):
                    return
        await asyncio.sleep(REWATCH_SECONDS)


async def _saw_end(events: "AsyncIterator[WatchEvent]", uid: str) -> bool:
    async for event in events:
        same = _decode(event.object).metadata.uid == uid
        if same == (event.type == "DELETED"):
            return True
    return False


def _logs(options: argparse.Namespace) -> int:
    word = options.pod
    if "/" in word:
        targets = parse_targets([word])
        if targets[0].resource.kind != "Pod":
            raise UsageError(f"logs are of pods, not of {targets[0].resource.plural}")
        word = targets[0].name
    if options.container and options.container_flag:
        raise UsageError("only one of -c or an inline CONTAINER name may be specified")
    container = options.container_flag or options.container or ""
    return _with_hub(
        options, lambda hub: _print_logs(hub, Target(find_resource("pod"), _name(word)), container, options)
    )


async def _print_logs(hub: "HubClient", target: Target, container: str, options: argparse.Namespace) -> int:
    from edgeagent.wire.rpc import LogsParams, RpcError

    params = LogsParams(
        namespace=_namespace(options),
        pod=target.name,
        container=container,
        tail_lines=options.tail,
        previous=options.previous,
        timestamps=options.timestamps,
    )
    try:
        result = await hub.logs(params)
    except RpcError as error:
        raise CommandError(_server_error(error)) from None
    if result.truncated:
        _complain(
            "warning: the log is longer than one answer may be; its beginning was left out (see --tail)"
        )
    sys.stdout.flush()
    sys.stdout.buffer.write(result.text)
    sys.stdout.buffer.flush()
    return 0


def _version(options: argparse.Namespace) -> int:
    if options.output == "json":
        sys.stdout.write(format_json({"clientVersion": {"gitVersion": f"v{edgeagent.__version__}"}}))
    elif options.output == "yaml":
        sys.stdout.write(format_yaml({"clientVersion": {"gitVersion": f"v{edgeagent.__version__}"}}))
    else:
        print(f"Client Version: v{edgeagent.__version__}")
    return 0


# What the commands share --------------------------------------------------------------------------


def _namespace(options: argparse.Namespace) -> str:
    namespace: str = options.namespace or "default"
    try:
        validate_label(namespace, "--namespace")
    except InvalidObjectError as error:
        raise UsageError(str(error)) from None
    return namespace


def _scope(resource: Resource, options: argparse.Namespace) -> str:
    everywhere = getattr(options, "all_namespaces", False) or not resource.namespaced
    return "" if everywhere else _namespace(options)


def _server_error(error: "RpcError", target: Target | None = None) -> str:
    message = escape(str(error))
    if target is not None and target.name and error.reason == "NotFound":
        message = f'{target.resource.plural} "{target.name}" not found'
    return f"Error from server ({escape(error.reason)}): {message}"


def _shown(target: Target) -> str:
    return f"{target.resource.singular}/{target.name}"


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    """Tell a person at a terminal what is being waited for, once it has taken a while."""
    handle = None
    if sys.stderr.isatty():
        handle = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, _complain, f"{what} …")
    try:
        yield
    finally:
        if handle is not None:
            handle.cancel()


def _with_hub(options: argparse.Namespace, work: "Callable[[HubClient], Coroutine[None, None, int]]") -> int:
    from edgeagent.cli.hubclient import HubClient, others_can_read, read_operator_file

    path = Path(options.config or os.environ.get("EDGECTL_CONFIG") or DEFAULT_CONFIG).expanduser()
    operator = read_operator_file(path)
    if others_can_read(path):
        _complain(f"warning: other users can read the private key in {path}: chmod 600 {path}")

    async def session() -> int:
        async with contextlib.AsyncExitStack() as stack:
            hub = HubClient(operator, timeout=options.request_timeout or None)
            async with _patience(f"connecting to {hub.brokers}"):
                await stack.enter_async_context(hub)
            quiet = getattr(options, "watch", False) or options.command == "delete"
            async with contextlib.nullcontext() if quiet else _patience("waiting for the hub's answer"):
                return await work(hub)

    return asyncio.run(session())


# The command line ---------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Usage errors as kubectl reports them: one line, where to find help, exit code 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and end with 1."""
        self.exit(1, f"error: {escape(message)}\nSee '{self.prog} --help' for usage.\n")


class _CommandParser(_Parser):
    """A command's own part of the line, with options and names in any order: ``get pod -o wide hello``."""

    _intermixing = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's own, intermixed; that one calls this one again for each of its two passes."""
        if self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False


_KINDS_HELP = "po|pod|pods, cm|configmap(s), secret(s), no|node(s), ev|event(s)"

_EXAMPLES = {
    "apply": """\
examples:
  edgectl apply -f hello.yaml               create or change what the file holds
  edgectl apply -f site/ -R                 every .yaml, .yml and .json below a directory
  cat hello.yaml | edgectl apply -f -       from standard input
  edgectl apply -f hello.yaml --dry-run=client   check the file, without asking the hub

All objects are taken, or none.""",
    "get": """\
examples:
  edgectl get pods                          the pods of the default namespace
  edgectl get po,cm -n shop -o wide         several kinds, more columns
  edgectl get pod hello -o yaml             one object, whole
  edgectl get pods -A -l app=web --watch    keep printing changes, until ^C""",
    "describe": """\
examples:
  edgectl describe pod hello
  edgectl describe node/gateway-7""",
    "delete": """\
examples:
  edgectl delete pod hello                  and wait until it is gone
  edgectl delete -f hello.yaml --wait=false
  edgectl delete pods -l app=web
  edgectl delete pod hello --force          forget it, though its node cannot confirm""",
    "logs": """\
examples:
  edgectl logs hello --tail 20
  edgectl logs hello -c web --previous      of the run before this one""",
    "completion": """\
examples:
  source <(edgectl completion bash)
  edgectl completion fish > ~/.config/fish/completions/edgectl.fish""",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="edgectl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Controls pods on edge nodes, over MQTT, in the manner of kubectl.",
        epilog="environment:\n"
        "  EDGECTL_CONFIG   the operator file, where --config does not name it\n"
        "  NO_COLOR         no colours\n\n"
        "'edgectl COMMAND --help' shows a command's own options and examples.",
    )
    _global_options(parser, default=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_CommandParser)
    shared = _CommandParser(add_help=False)
    _global_options(shared, default=argparse.SUPPRESS)

    def command(name: str, summary: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=_EXAMPLES.get(name),
            parents=[shared],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=run)
        return made

    apply = command("apply", "create or change objects from files", _apply)
    _file_options(apply, required=True)
    apply.add_argument(
        "--dry-run",
        choices=("none", "server", "client"),
        default="none",
        help="check only: 'client' without asking the hub, 'server' at the hub",
    )

    get = command("get", "show objects", _get)
    _target_argument(get, "*")
    _selection_options(get)
    get.add_argument("-o", "--output", choices=FORMATS, default="table", help="how to print (default: table)")
    get.add_argument("-w", "--watch", action="store_true", help="go on printing changes until interrupted")
    get.add_argument("--no-headers", action="store_true", help="leave the headings out")

    describe = command("describe", "tell all about an object, and what happened to it", _describe)
    _target_argument(describe, "*")
    _selection_options(describe)

    delete = command("delete", "delete objects by name, label or file, and wait until they are gone", _delete)
    _target_argument(delete, "*")
    _selection_options(delete)
    _file_options(delete, required=False)
    delete.add_argument("--all", action="store_true", help="all objects of the kind in the namespace")
    delete.add_argument("--wait", type=_boolean, default=True, metavar="true|false",
                        help="wait until the objects are gone (default: true)")  # fmt: skip
    delete.add_argument("--timeout", type=parse_duration, default=0.0, metavar="DURATION",
                        help="how long to wait, as 30s or 5m (default: 0, for ever)")  # fmt: skip
    delete.add_argument("--grace-period", type=_grace, default=None, metavar="SECONDS",
                        help="time for containers to end by themselves")  # fmt: skip
    delete.add_argument(
        "--now", action="store_const", dest="grace_period", const=1, help="the same as --grace-period 1"
    )
    delete.add_argument(
        "--force", action="store_true", help="forget the object without hearing from its node"
    )
    delete.add_argument("--ignore-not-found", action="store_true", help="an absent object is no error")

    logs = command("logs", "print the log of a container", _logs)
    logs.add_argument("pod", metavar="POD", help="the pod's name, or pod/NAME")
    logs.add_argument("container", metavar="CONTAINER", nargs="?", help="its container, where it has several")
    logs.add_argument("-c", "--container", dest="container_flag", metavar="CONTAINER", help="the same")
    logs.add_argument(
        "--tail", type=_tail, default=None, metavar="N", help="the last N lines (default: -1, all)"
    )
    logs.add_argument("-p", "--previous", action="store_true", help="of the run before this one")
    logs.add_argument("--timestamps", action="store_true", help="put its time before each line")

    version = command("version", "print edgectl's version", _version)
    version.add_argument("-o", "--output", choices=("json", "yaml"), default=None, help="how to print")

    completion = command("completion", "print a completion script for a shell", _completion)
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return parser


def _global_options(parser: argparse.ArgumentParser, *, default: str | None) -> None:
    timeout = 10.0 if default is None else default
    parser.add_argument(
        "-n", "--namespace", default=default, metavar="NAME", help="the namespace (default: default)"
    )
    parser.add_argument("--config", default=default, metavar="FILE",
                        help=f"the operator file (default: $EDGECTL_CONFIG or {DEFAULT_CONFIG})")  # fmt: skip
    parser.add_argument("--request-timeout", type=parse_duration, default=timeout, metavar="DURATION",
                        help="for connecting, and for each answer (default: 10s; 0: for ever)")  # fmt: skip


def _file_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("-f", "--filename", action="append", required=required, default=None, metavar="FILE",
                        help="a file, a directory, or - for standard input; may be repeated")  # fmt: skip
    parser.add_argument("-R", "--recursive", action="store_true", help="the directories in a directory, too")


def _target_argument(parser: argparse.ArgumentParser, count: str) -> None:
    parser.add_argument("target", metavar="KIND [NAME …] | KIND/NAME", nargs=count, help=_KINDS_HELP)


def _selection_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="in every namespace")
    parser.add_argument("-l", "--selector", type=parse_selector, default=None, metavar="K=V[,K=V…]",
                        help="only objects with these labels")  # fmt: skip


def _completion(options: argparse.Namespace) -> int:
    commands = _command_options(build_parser())
    words = " ".join(commands)
    kinds = "pods configmaps secrets nodes events"
    if options.shell == "fish":
        print("complete -c edgectl -f")
        print(f"complete -c edgectl -n __fish_use_subcommand -a '{words}'")
        for name, flags in commands.items():
            seen = f"-n '__fish_seen_subcommand_from {name}'"
            for flag in flags:
                print(f"complete -c edgectl {seen} -l {flag.removeprefix('--')}")
        print(f"complete -c edgectl -n '__fish_seen_subcommand_from get describe delete' -a '{kinds}'")
        print("complete -c edgectl -n '__fish_seen_subcommand_from apply delete' -s f -r -F")
        return 0
    cases = "\n".join(f"    {name}) flags='{' '.join(flags)}' ;;" for name, flags in commands.items())
    if options.shell == "zsh":
        print("autoload -Uz bashcompinit && bashcompinit")
    print(f"""\
_edgectl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  local command="" flags="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$word" in {"|".join(commands)}) command="$word"; break ;; esac
  done
  case "$command" in
{cases}
    *) COMPREPLY=($(compgen -W '{words}' -- "$current")); return ;;
  esac
  case "$previous" in -f|--filename|--config) COMPREPLY=($(compgen -f -- "$current")); return ;; esac
  case "$current" in -*) COMPREPLY=($(compgen -W "$flags" -- "$current")); return ;; esac
  case "$command" in
    get|describe|delete) COMPREPLY=($(compgen -W '{kinds}' -- "$current")) ;;
    completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- "$current")) ;;
  esac
}}
complete -F _edgectl edgectl""")
    return 0


def _command_options(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """The long options of each command."""
    found: dict[str, list[str]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub_parser in action.choices.items():
                options = (option for act in sub_parser._actions for option in act.option_strings)
                found[name] = sorted(option for option in options if option.startswith("--"))
    return found


def _with_values(words: Sequence[str]) -> list[str]:
    """``--wait`` and ``--dry-run`` without a value mean one, and never take the next word as theirs."""
    alone = {"--wait": "--wait=true", "--dry-run": "--dry-run=client"}
    return [alone.get(word, word) for word in words]


@contextlib.contextmanager
def _quiet_pipe() -> Iterator[None]:
    """Flush what was printed; raises BrokenPipeError here, not when the interpreter ends."""
    try:
        yield
    finally:
        sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``edgectl``; the exit code is 0, 1 for any error, 130 after ^C."""
    parser = build_parser()
    try:
        with _quiet_pipe():
            try:
                options = parser.parse_args(_with_values(sys.argv[1:] if argv is None else argv))
            except SystemExit as ending:
                return ending.code if isinstance(ending.code, int) else 1
            if options.command is None:
                parser.print_help()
                return 0
            run: Callable[[argparse.Namespace], int] = options.run
            return run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more. The interpreter's own last flush must not complain about it.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except CommandError as error:
        _complain(str(error))
    except UnknownKindError as error:
        _complain(f"error: {error}")
    except UsageError as error:
        _complain(f"error: {error}\nSee 'edgectl {options.command} --help' for usage.")
    except EdgeAgentError as error:
        _complain(f"error: {escape(str(error))}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
