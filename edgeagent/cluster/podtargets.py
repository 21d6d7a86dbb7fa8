"""Where calls about a pod go: to the node that it is on, if there is such a pod. May not judge who may call
what.
"""

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.decode import decode_json
from edgeagent.api.objects.pod import Pod
from edgeagent.cluster.operatorgate import Caller
from edgeagent.cluster.store import Store
from edgeagent.cluster.views import Views
from edgeagent.wire.authority import NODE_METHODS, RESOURCES
from edgeagent.wire.hubapi import NodeKeyParams, NodeKeyResult
from edgeagent.wire.rpc import LogsParams, RpcError
from edgeagent.wire.streamapi import StreamParams


def node_key(store: Store, views: Views, params: NodeKeyParams, caller: Caller) -> NodeKeyResult:
    """The node of a stream and its key, for who may have the stream; RpcError or ForbiddenError otherwise."""
    spec = NODE_METHODS.get(params.method)
    if spec is None or not issubclass(spec.params, StreamParams):
        raise RpcError("Invalid", f"{params.method[:40]!r} is no stream")
    caller.require(spec.verb, spec.resource, params.namespace, params.pod)
    pod = _pod(store, views, params.namespace, params.pod)
    node = store.node(pod.spec.node_name)
    if node is None:
        raise RpcError("Invalid", f"pod {params.pod} is on no node (yet)")
    return NodeKeyResult(node=node.name, key=node.sealing_key)


def check_logs(store: Store, views: Views, params: LogsParams, node: str) -> None:
    """Refuse a call for a log that is not on the node; RpcError or PermanentError."""
    pod = _pod(store, views, params.namespace, params.pod)
    if pod.spec.node_name != node:
        raise RpcError("Invalid", f"pod {params.pod} is on node {pod.spec.node_name}, not on {node}")
    names = [container.name for container in pod.spec.containers]
    if not params.container and len(names) > 1 and not params.all_containers:
        raise RpcError(
            "Invalid",
            f"a container name must be given for pod {params.pod}, choose one of: {' '.join(names)}",
        )
    names = [*(container.name for container in pod.spec.init_containers), *names]
    if params.container and params.container not in names:
        raise RpcError(
            "Invalid", f"container {params.container!r} is not one of pod {params.pod}: {' '.join(names)}"
        )


def _pod(store: Store, views: Views, namespace: str, name: str) -> Pod:
    stored = store.find("Pod", namespace, name)
    pod = decode_json(stored.body, Pod) if stored else views.mirror(namespace, name)
    if pod is None:
        raise PermanentError(f'{RESOURCES["Pod"]} "{name}" not found', reason="NotFound")
    return pod
