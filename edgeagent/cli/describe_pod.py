"""A pod told at length: what it was asked to be, and what became of it."""

from edgeagent.api.objects.pod import Pod
from edgeagent.cli.describe_container import describe_containers
from edgeagent.cli.describe_security import describe_security
from edgeagent.cli.describe_volume import describe_volumes
from edgeagent.cli.output import age
from edgeagent.cli.page import Page, head, labels


def describe_pod(page: Page, pod: Pod) -> None:
    """Everything but its events."""
    status, spec = pod.status, pod.spec
    head(page, pod)
    if spec.priority is not None:
        page.row(0, "Priority:", str(spec.priority))
    if spec.priority_class_name:
        page.row(0, "Priority Class Name:", spec.priority_class_name)
    if spec.service_account_name:
        page.row(0, "Service Account:", spec.service_account_name)
    page.row(0, "Node:", f"{spec.node_name}/{status.host_ip}" if spec.node_name else "<none>")
    if status.start_time:
        page.row(0, "Start Time:", page.time(status.start_time))
    labels(page, pod)
    _status(page, pod)
    describe_security(page, 0, spec.security_context)
    page.row(0, "IP:", status.pod_ip)
    page.row(0, "IPs:", *([] if status.pod_ips else ["<none>"]))
    for address in status.pod_ips:
        page.row(1, "IP:", address.ip)
    page.row(0, "Host Network:", str(spec.host_network).lower())
    page.row(0, "Restart Policy:", spec.restart_policy)
    if spec.init_containers:
        describe_containers(
            page, "Init Containers:", pod, spec.init_containers, status.init_container_statuses
        )
    describe_containers(page, "Containers:", pod, spec.containers, status.container_statuses)
    if status.conditions:
        page.row(0, "Conditions:")
        page.row(1, "Type", "Status", "Reason", "Message")
    for condition in status.conditions:
        page.row(1, condition.type, condition.status, condition.reason, condition.message)
    describe_volumes(page, spec.volumes)
    page.row(0, "QoS Class:", status.qos_class or "<unknown>")


def _status(page: Page, pod: Pod) -> None:
    status, meta = pod.status, pod.metadata
    if meta.deletion_timestamp and status.phase not in ("Succeeded", "Failed"):
        lasts = age(meta.deletion_timestamp, page.now)
        page.row(0, "Status:", "Terminating" if lasts == "<invalid>" else f"Terminating (lasts {lasts})")
        if meta.deletion_grace_period_seconds is not None:
            page.row(0, "Termination Grace Period:", f"{meta.deletion_grace_period_seconds}s")
    else:
        page.row(0, "Status:", status.phase or "Pending")
    for label, value in (("Reason:", status.reason), ("Message:", status.message)):
        if value:
            page.row(0, label, value)
