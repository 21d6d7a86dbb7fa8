"""Targets: files that people and programs bring, and what nodes report to the hub."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from edgeagent.api.clock import SystemClock
from edgeagent.cli.operatorfile import read_operator_file
from edgeagent.cluster.audit import AuditLogs
from edgeagent.cluster.observer import Observer
from edgeagent.cluster.settings import load_settings
from edgeagent.cluster.store import Store, StoredNode
from edgeagent.node.config import load_config
from edgeagent.node.identity import IdentityDir, read_join_file
from edgeagent.node.pods.logs import read_log
from edgeagent.node.static.manifest import Origin, read_objects
from edgeagent.wire.join import parse_broker
from edgeagent.wire.yamlio import read_documents
from edgeagent_podman.frames import Output
from tests.fuzz.target import Target, declared
from tests.wire.vectors import Vector

KEYS = Vector("keys")
ORIGIN = Origin("web.yaml", "gw-1", 0.0)


@cache
def _folder() -> Path:
    """One for the whole run; in memory where there is a place for that."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder is made in it
    folder = tempfile.TemporaryDirectory(prefix="edge-fuzz-", dir=memory)
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def _from_file(read: Callable[[Path], object], name: str = "input") -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        path = _folder() / name
        path.write_bytes(data)
        declared(lambda: read(path))

    return run


def _identity(path: Path) -> object:
    return IdentityDir(path.parent).load()


def _manifest(data: bytes) -> None:
    def run() -> None:
        documents = [(document.number, document.data) for document in read_documents(data)]
        read_objects(documents, ORIGIN)

    declared(run)


def _log(data: bytes) -> None:
    path = _folder() / "ctr.log"
    path.write_bytes(data)
    for tail_lines, timestamps in ((None, True), (2, False)):
        found = read_log(path, tail_lines=tail_lines, timestamps=timestamps, limit=512)
        assert len(found.text) <= 512
    output = Output(512)
    declared(lambda: output.feed(data))
    assert len(bytes(output)) <= 512


@cache
def _hub() -> tuple[Observer, AuditLogs]:
    clock = SystemClock()
    store = Store(_folder() / "hub.db", create=True)
    store.put_node(
        StoredNode(
            name="gw-1",
            uid="u",
            created="2026-01-01T00:00:00Z",
            sealing_key=bytes(32),
            serial="1",
            generation=0,
            client_id="plant.gw-1.0",
        )
    )
    observer = Observer(
        store,
        clock,
        on_change=lambda *_: None,
        on_gone=lambda *_: None,
        on_node=lambda _: None,
    )
    return observer, AuditLogs(store, clock)


def _report(data: bytes) -> None:
    """Whatever a node says: at the hub it changes what is known of that node, or nothing."""
    observer, logs = _hub()
    for levels in (["online"], ["status"], ["pods", "default", "web-gw-1"], ["events"]):
        observer.receive("gw-1", levels, data)
    logs.receive("gw-1", data)


def _reports() -> Iterable[bytes]:
    yield b'{"online":true,"session":3}'
    yield b'{"observedGeneration":3,"conditions":[{"type":"Ready","status":"True"}],"audit":{"chain":"a"}}'
    yield b'{"uid":"u","generation":1,"status":{"phase":"Running","podIP":"10.0.0.1"}}'
    yield (
        b'{"uid":"u","generation":1,"status":{},"pod":{"apiVersion":"v1","kind":"Pod","metadata":{"name":'
        b'"web-gw-1","namespace":"default","uid":"u"},"spec":{"nodeName":"gw-1","containers":[{"name":"c",'
        b'"image":"x"}]}}}'
    )
    yield (
        b'{"stream":"s","sequence":4,"event":{"apiVersion":"v1","kind":"Event","metadata":{},'
        b'"involvedObject":{"kind":"Pod","name":"web"},"reason":"Pulled","message":"m","type":"Normal"}}'
    )
    yield b'{"stream":"s","sequence":1,"audit":' + Vector("audit").raw("row") + b"}"


def _files() -> Iterable[bytes]:
    yield json.dumps(
        {
            "cluster": "plant",
            "node": "gw-1",
            "brokers": [{"host": "broker.example", "port": 8883}],
            "ca": KEYS["ca"],
            "certificate": KEYS["tls_certificate"],
            "privateKey": KEYS["tls_key"],
            "trust": {"cluster": "plant", "serial": 1, "key": "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="},
            "sealingKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        }
    ).encode()
    yield b'{"cluster":"plant","node":"gw-1","brokers":[{"host":"::1","port":0}],"enrolment":[{}]}'


def _operator_files() -> Iterable[bytes]:
    yield json.dumps(
        {
            "cluster": "plant",
            "user": "user:ada",
            "brokers": [{"host": "broker.example"}],
            "ca": KEYS["ca"],
            "certificate": KEYS["operator_certificate"],
            "privateKey": KEYS["operator_key"],
            "hubKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        }
    ).encode()


def _manifests() -> Iterable[bytes]:
    yield (
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: c\n"
        b"    image: x\n    env: &e [{name: A, value: '1'}]\n---\napiVersion: v1\nkind: List\nitems: []\n"
    )
    yield b"a: &a [1, 0x1f, 1e3, .inf, ~, 'x']\nb: *a\n? c\n: !!str 3\n"
    yield b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"\\ud83d\\ude00"}}'


def _configs() -> Iterable[bytes]:
    yield (
        b'[agent]\nstate_dir = "/var/lib/x"\nreserve_size = "8Mi"\n[mqtt]\nbrokers = ["b:1"]\n'
        b'[pods]\nmax_pods = 10\n[eviction.hard]\n"memory.available" = "5%, 100Mi"\n'
        b'[images]\nmaximum_age = "2h"\n'
        b'[logs]\nmax_size = "1Mi"\n[plugins.podman]\nsocket = "/x"\n'
    )


def _addresses(data: bytes) -> None:
    declared(lambda: parse_broker(data.decode(errors="replace")))


def _logs() -> Iterable[bytes]:
    time = b"2026-01-01T00:00:00.000000000+00:00"
    yield time + b" stdout F one\n" + time + b" stderr P tw" + b"\n" + time + b" stderr F o\nbare\n"
    yield b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01d"


def _settings() -> Iterable[bytes]:
    yield (
        b'{"cluster":"plant","brokers":[{"host":"b"}],"listenAddress":"0.0.0.0","listenPort":8883,'
        b'"network":{"podCidrs":["10.42.0.0/16"],"serviceCidrs":["10.43.0.0/16"]},"enrolPort":8884}'
    )


FILES: Mapping[str, Target] = {
    "join-file": Target(_from_file(read_join_file), _files),
    "identity-file": Target(_from_file(_identity, "identity.json"), _files),
    "operator-file": Target(_from_file(read_operator_file), _operator_files),
    "config": Target(
        _from_file(lambda path: load_config(path, required=True)),
        _configs,
    ),
    "hub-settings": Target(_from_file(load_settings), _settings),
    "manifest": Target(_manifest, _manifests),
    "broker-address": Target(_addresses, lambda: [b"host:1", b"[::1]:8883", b"h"], 300),
    "log": Target(_log, _logs),
    "report": Target(_report, _reports),
}
