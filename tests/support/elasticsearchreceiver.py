"""What Elasticsearch and OpenSearch check in a bulk request, and what they keep of it.

https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk
"""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from tests.support.broker import TlsMaterial
from tests.support.httpreceiver import Answer, ApiError, HttpReceiver, Request

_INDEX = re.compile(r"^(?![-_+])[^A-Z\\/*?\"<>| ,#:]{1,255}$")
_DATE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$")
_PARAMETERS = {
    "filter_path",
    "pipeline",
    "refresh",
    "timeout",
    "routing",
    "require_alias",
    "wait_for_active_shards",
}
_METADATA = {"_index", "_id", "routing", "require_alias", "dynamic_templates"}

ItemFault = Callable[[str, dict[str, Any]], tuple[int, str] | None]
"""Status and type of the error for an id and its document, or None to take it."""


class ElasticsearchReceiver(HttpReceiver):
    """``documents`` by index and id. Names in ``data_streams`` are data streams, all others indices.

    Like dynamic mapping, each field is an object, or not, as it was at first; another document's is refused.
    """

    content_types = frozenset({"application/x-ndjson"})

    def __init__(
        self,
        *,
        data_streams: frozenset[str] = frozenset({"logs-edgeagent-default"}),
        tls: TlsMaterial | None = None,
        client_certificates: bool = False,
    ) -> None:
        super().__init__(tls=tls, client_certificates=client_certificates)
        self.data_streams = data_streams
        self.documents: dict[str, dict[str, dict[str, Any]]] = {}
        self.writes = 0
        self.item_fault: ItemFault | None = None
        self.pipelines: list[str] = []
        self._mapping: dict[tuple[str, str], bool] = {}

    def messages(self) -> list[str]:
        """The text of every document."""
        return [one["message"] for index in list(self.documents.values()) for one in list(index.values())]

    def serve(self, request: Request) -> Answer:
        """One bulk request."""
        if request.path != "/_bulk":
            raise ApiError(f"path {request.path}")
        query = parse_qs(request.query, strict_parsing=True)
        if unknown := query.keys() - _PARAMETERS:
            raise ApiError(f"unknown parameters {unknown}")
        self.pipelines += query.get("pipeline", [])
        if not request.body.endswith(b"\n"):
            raise ApiError("The bulk request must be terminated by a newline")
        lines = request.body.split(b"\n")[:-1]
        if not lines or len(lines) % 2:
            raise ApiError("an action without a document, or nothing")
        items = [self._item(lines[at], lines[at + 1]) for at in range(0, len(lines), 2)]
        errors = any("error" in result for item in items for result in item.values())
        answer = {"took": 1, "errors": errors, "items": items}
        if "filter_path" in query:
            answer = {"errors": errors, "items": [_filtered(item) for item in items]}
        return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _item(self, action_line: bytes, document_line: bytes) -> dict[str, Any]:
        action, document = _object(action_line), _object(document_line)
        if len(action) != 1 or next(iter(action)) not in ("create", "index"):
            raise ApiError(f"Malformed action/metadata line: {action}")
        ((op, metadata),) = action.items()
        if unknown := metadata.keys() - _METADATA:
            raise ApiError(f"Action/metadata line contains an unknown parameter {unknown}")
        index, uid = metadata.get("_index"), metadata.get("_id")
        if not isinstance(index, str) or not _INDEX.match(index):
            raise ApiError(f"index {index!r}")
        if not isinstance(uid, str) or not 0 < len(uid.encode()) <= 512:
            raise ApiError(f"id {uid!r}")
        self.writes += 1
        status, problem = self._write(op, index, uid, document)
        result = {"_index": index, "_id": uid, "status": status}
        if problem:
            result["error"] = {"type": problem, "reason": f"for [{uid}]", "index": index}
        return {op: result}

    def _write(self, op: str, index: str, uid: str, document: dict[str, Any]) -> tuple[int, str]:
        if self.item_fault is not None and (fault := self.item_fault(uid, document)) is not None:
            return fault
        if index in self.data_streams and op != "create":
            raise ApiError("only write ops with an op_type of create are allowed in data streams")
        if index in self.data_streams and not _DATE.match(str(document.get("@timestamp"))):
            return 400, "document_parsing_exception"
        if any(name.startswith("_") for name in document):
            return 400, "document_parsing_exception"
        shapes = dict(_shapes("", document))
        if any(self._mapping.get((index, path), shape) != shape for path, shape in shapes.items()):
            return 400, "document_parsing_exception"
        self._mapping |= {(index, path): shape for path, shape in shapes.items()}
        kept = self.documents.setdefault(index, {})
        if uid in kept and op == "create":
            return 409, "version_conflict_engine_exception"
        status = 200 if uid in kept else 201
        kept[uid] = document
        return status, ""


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ApiError(f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError("not an object")
    return value


def _shapes(path: str, value: dict[str, Any]) -> list[tuple[str, bool]]:
    """Every field's path, and whether it is an object; a dot in a name makes an object, too."""
    found: list[tuple[str, bool]] = []
    for name, inner in value.items():
        if not name or any(not piece for piece in name.split(".")):
            raise ApiError(f"field name {name!r}")
        pieces = f"{path}.{name}".strip(".").split(".")
        found += [(".".join(pieces[:depth]), True) for depth in range(1, len(pieces))]
        found.append((".".join(pieces), isinstance(inner, dict)))
        if isinstance(inner, dict):
            found += _shapes(".".join(pieces), inner)
    return found


def _filtered(item: dict[str, Any]) -> dict[str, Any]:
    """As filter_path=items.*.status,items.*.error.type,items.*.error.reason leaves it."""
    ((op, result),) = item.items()
    kept: dict[str, Any] = {"status": result["status"]}
    if "error" in result:
        kept["error"] = {key: result["error"][key] for key in ("type", "reason")}
    return {op: kept}
