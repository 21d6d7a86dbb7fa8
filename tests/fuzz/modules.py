"""Where the coverage of each target is watched: apart, for it must be known before anything is imported."""

from collections.abc import Mapping

MODULES: Mapping[str, tuple[str, ...]] = {
    "index": ("edgeagent.wire.index", "edgeagent.wire.envelope", "edgeagent.wire.blob"),
    "object": ("edgeagent.api.objects",),
    "blob": ("edgeagent.wire.blob",),
    "metrics": ("edgeagent.wire.metricblock", "edgeagent.wire.metricparts"),
    "envelope": ("edgeagent.wire.envelope", "edgeagent.wire.trust"),
    "reply": ("edgeagent.wire.rpc", "edgeagent.wire.privatecalls"),
    "node-request": ("edgeagent.wire.noderequest", "edgeagent.wire.envelope"),
    "operator-request": ("edgeagent.wire.operatorcalls", "edgeagent.wire.certificates"),
    "enrolment-request": ("edgeagent.wire.enrolment", "edgeagent.wire.certificates"),
    "enrolment-answer": ("edgeagent.wire.enrolment",),
    "renewal-request": ("edgeagent.wire.renewal", "edgeagent.wire.certificates"),
    "renewal-answer": ("edgeagent.wire.renewal", "edgeagent.wire.certificates"),
    "stream": ("edgeagent.wire.stream", "edgeagent.wire.streamkey"),
    "channels": ("edgeagent.wire.channels", "edgeagent.wire.channelframes"),
    "time": ("edgeagent.wire.signedtime",),
    "certificate": ("edgeagent.wire.certificates",),
    "join-file": ("edgeagent.wire.join", "edgeagent.node.identity"),
    "identity-file": ("edgeagent.node.identity",),
    "operator-file": ("edgeagent.cli.operatorfile",),
    "config": ("edgeagent.node.config", "edgeagent.node.pressure.amounts", "tomllib"),
    "hub-settings": ("edgeagent.cluster.settings", "edgeagent.cluster.allocation"),
    "manifest": ("edgeagent.wire.yamlio", "edgeagent.wire.jsonio", "edgeagent.node.static", "yaml"),
    "broker-address": ("edgeagent.wire.join",),
    "log": ("edgeagent.node.pods.logs", "edgeagent_podman.frames"),
    "report": ("edgeagent.cluster.observer", "edgeagent.cluster.audit"),
}
