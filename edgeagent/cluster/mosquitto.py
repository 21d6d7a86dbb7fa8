"""A ready configuration for Mosquitto 2: TLS with client certificates, and who may use which topic.

May not write files or know what the topics carry. Mosquitto gives each connection the common name of its
certificate as user name, and puts it for ``%u`` in the patterns; it can only stand for whole levels.
"""

from collections.abc import Iterable

from edgeagent.cluster.ca import HUB_NAME
from edgeagent.cluster.layout import HubFiles
from edgeagent.cluster.settings import HubSettings
from edgeagent.wire.pahosocket import MAX_PACKET_BYTES
from edgeagent.wire.topics import Topics

MAX_QUEUED_BYTES = 128 * 1024 * 1024
MAX_ENROLLING = 100
"""How many connections there may be at a time to the listener that anybody may connect to."""


def broker_config(files: HubFiles, settings: HubSettings, *, user: str) -> str:
    """The text of ``mosquitto.conf``. ``user`` is whom Mosquitto becomes where it is started as root."""
    return f"""\
# Written by `edgehub`. Start the broker with: mosquitto -c {files.mosquitto_config}
# Started as root, Mosquitto becomes this user, who owns its key and its data.
user {user}
# So that `edgehub node revoke` can have the broker read the list of revoked certificates.
pid_file {files.mosquitto_pid}
acl_file {files.mosquitto_acl}
{_strangers(files, settings)}
listener {settings.listen_port} {settings.listen_address}
cafile {files.ca_certificate}
certfile {files.broker_certificate}
keyfile {files.broker_key}
tls_version tlsv1.2
require_certificate true
crlfile {files.revocation_list}
# The certificate's common name is the user name that the ACL is about.
use_identity_as_username true

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


def _strangers(files: HubFiles, settings: HubSettings) -> str:
    # No per_listener_settings: Mosquitto 2.0.21 then drops what it should keep for a client that is away,
    # for that one is on no listener and so under no rules that allow it.
    if not settings.enrol_port:
        return "allow_anonymous false\n"
    return f"""\
# Here a device without a certificate asks to become a node (`edgeagent enroll --token`). Anybody may connect,
# under no name: nobody is in the file of passwords, and the other listener takes names from certificates
# alone. The ACL gives who has no name two topics, which are those of the own client id.
allow_anonymous true
password_file {files.mosquitto_passwords}

listener {settings.enrol_port} {settings.enrol_address}
certfile {files.broker_certificate}
keyfile {files.broker_key}
tls_version tlsv1.2
require_certificate false
max_connections {MAX_ENROLLING}
"""


def broker_acl(cluster: str, refused: Iterable[str] = (), operators: Iterable[str] = ()) -> str:
    """The text of the ACL file: whatever is not allowed here is forbidden.

    ``refused`` are names of revoked certificates. The broker lets these in no more; a session that they have
    can do nothing from the moment on that the file is read. ``operators`` are the names of operators'
    certificates, with their prefix: what nodes are to have is theirs to read at the hub, as far as their role
    goes, and not here.
    """
    topics = Topics(cluster)
    rules = [
        ("read", topics.desired("%u")),
        ("read", topics.node_rpc("%u", "#")),
        ("read", f"{topics.prefix}nodes/%u/streams/#"),
        ("write", topics.stream("+", "%u", "+")),
        ("read", topics.object("+")),
        ("write", topics.status("%u")),
        ("write", topics.online("%u")),
        ("write", topics.pod("%u", "+", "+")),
        ("write", topics.events("%u")),
        ("write", topics.audit("%u")),
        ("write", topics.metrics("%u")),
        ("write", topics.logs("%u")),
        ("write", topics.hub_rpc("%u", "+")),
        ("read", topics.replies("%u", "#")),
        # A node answers the operator whose request the hub has signed and passed on.
        ("write", topics.replies("+", "+")),
    ]
    patterns = "\n".join(f"pattern {access} {topic}" for access, topic in rules)
    denied = "".join(f"user {name}\ntopic deny #\n" for name in sorted(set(refused)))
    # A pattern without %u counts for everybody, and so for operators,
    unread = "".join(
        f"user {name}\ntopic deny {topics.object('#')}\n" for name in sorted(set(operators) - set(refused))
    )
    # and for who has no name, too.
    rooms = ("nodes", "objects", "hub", "replies")
    strangers = "\n".join(f"topic deny {topics.prefix}{room}/#" for room in rooms)
    return f"""\
# Written by `edgehub`. Whatever is not allowed here is forbidden.
# Who has no name, and is there to become a node, has nothing to do with anything else.
{strangers}

user {HUB_NAME}
topic readwrite {topics.prefix}#
{denied}{unread}
# For everybody, %u being the own name: a node's, or user:NAME for an operator. Calls to the hub from
# a name without that prefix are refused by the hub itself.
{patterns}

# For everybody, %c being the client's id: a device asks to become a node, and is answered.
pattern write {topics.enrolment_request("%c")}
pattern read {topics.enrolment_answer("%c")}
"""
