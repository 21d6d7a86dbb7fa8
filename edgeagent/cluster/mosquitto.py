"""A ready configuration for Mosquitto 2: TLS with client certificates, and who may use which topic.

May not write files or know what the topics carry. Mosquitto gives each connection the common name of its
certificate as user name, and puts it for ``%u`` in the patterns; it can only stand for whole levels.
"""

from edgeagent.cluster.ca import HUB_NAME
from edgeagent.cluster.layout import HubFiles
from edgeagent.wire.pahosocket import MAX_PACKET_BYTES
from edgeagent.wire.topics import Topics

MAX_QUEUED_BYTES = 128 * 1024 * 1024


def broker_config(files: HubFiles, *, address: str, port: int, user: str) -> str:
    """The text of ``mosquitto.conf``. ``user`` is whom Mosquitto becomes where it is started as root."""
    return f"""\
# Written by `edgehub init`. Start the broker with: mosquitto -c {files.mosquitto_config}
# Started as root, Mosquitto becomes this user, who owns its key and its data.
user {user}

listener {port} {address}
cafile {files.ca_certificate}
certfile {files.broker_certificate}
keyfile {files.broker_key}
tls_version tlsv1.2
require_certificate true
# The certificate's common name is the user name that the ACL is about.
use_identity_as_username true
allow_anonymous false
acl_file {files.mosquitto_acl}

# Retained messages are the cluster's desired state and its last known status: all of them are kept.
# What a power cut takes, the hub and the nodes publish again when they reconnect.
persistence true
persistence_location {files.mosquitto_data}/
autosave_interval 300
retain_available true

# The largest packet; clients learn it when they connect, and send what is larger in chunks.
max_packet_size {MAX_PACKET_BYTES}
# What waits for one client. A low count would cut the retained messages of a large cluster short, and with
# 0 (no limit) Mosquitto 2.0 ends a connection where it should only refuse a message: so bytes are the limit.
max_queued_messages 1000000
max_queued_bytes {MAX_QUEUED_BYTES}

set_tcp_nodelay true
# No statistics every ten seconds: an idle broker is idle.
sys_interval 0
log_dest stderr
log_type error
log_type warning
log_type notice
"""


def broker_acl(cluster: str) -> str:
    """The text of the ACL file: whatever is not allowed here is forbidden."""
    topics = Topics(cluster)
    rules = [
        ("read", topics.desired("%u")),
        ("read", topics.node_rpc("%u", "#")),
        ("read", topics.object("+")),
        ("write", topics.status("%u")),
        ("write", topics.online("%u")),
        ("write", topics.pod("%u", "+", "+")),
        ("write", topics.events("%u")),
        ("write", f"{topics.prefix}nodes/%u/metrics"),
        ("write", f"{topics.prefix}nodes/%u/logs"),
        ("write", topics.hub_rpc("%u", "+")),
        ("read", topics.replies("%u", "#")),
        # A node answers the operator whose request the hub has signed and passed on.
        ("write", topics.replies("+", "+")),
    ]
    patterns = "\n".join(f"pattern {access} {topic}" for access, topic in rules)
    return f"""\
# Written by `edgehub init`. Whatever is not allowed here is forbidden.
user {HUB_NAME}
topic readwrite {topics.prefix}#

# For everybody, %u being the own name: a node's, or user:NAME for an operator. Calls to the hub from
# a name without that prefix are refused by the hub itself.
{patterns}
"""
