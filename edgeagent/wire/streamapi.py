"""What is said to open a stream: the calls ``follow``, ``exec`` and ``portforward``, and the channels of
each.

``sealed`` is the stream's key with what is private, for the node alone (``edgeagent.wire.streamkey``); at
the unix socket it is empty. Where a channel is opened, its kind is one of the names here.

* ``follow``: the node opens a channel ``log`` for each container, with a ``LogChannel``, and writes the log
  to it until the container ends, as kubectl does. It ends the stream once all is said.
* ``exec``: the node opens ``stdout``, ``stderr`` (none with a terminal) and ``control``; with ``stdin`` the
  client opens ``stdin``. On ``control`` the client requests ``resize`` with a ``TerminalSize``, and the
  node, last of all, ``exit`` with an ``ExitStatus``.
* ``portforward``: the client opens a channel ``port`` with a ``PortChannel`` for each connection; it is
  refused where nobody listens.
"""

from edgeagent.api.objects.base import KubernetesStruct
from edgeagent.wire.rpc import CallParams

FOLLOW, EXEC, PORT_FORWARD = "follow", "exec", "portforward"
LOG, STDIN, STDOUT, STDERR, CONTROL, PORT = "log", "stdin", "stdout", "stderr", "control", "port"
RESIZE, EXIT = "resize", "exit"


class StreamParams(CallParams, frozen=True):
    """What every stream is about: a pod. ``sealed``: the key and what is private."""

    namespace: str
    pod: str
    sealed: bytes = b""

    def about(self) -> tuple[str, str]:
        """The pod."""
        return self.namespace, self.pod


class FollowParams(StreamParams, frozen=True):
    """Which logs: of ``container``, or of all, init containers included. ``tail_lines`` None for all,
    ``since`` in seconds since the epoch.

    ``since_seconds``: no older than that by the node's clock. ``follow`` False: what there is now, and the
    end. ``previous``: of the run before this one.
    """

    container: str = ""
    all_containers: bool = False
    tail_lines: int | None = None
    since: float = 0
    since_seconds: float = 0
    previous: bool = False
    timestamps: bool = False
    follow: bool = True


class LogChannel(KubernetesStruct, frozen=True):
    """The value of a channel ``log``."""

    container: str


class ExecParams(StreamParams, frozen=True):
    """A command in ``container``: with its standard input, with a terminal."""

    container: str = ""
    stdin: bool = False
    tty: bool = False


class ExecPrivate(KubernetesStruct, frozen=True):
    """What is private of a command. ``columns`` and ``rows`` are the size of the terminal at first, 0 for
    unknown.
    """

    command: list[str]
    columns: int = 0
    rows: int = 0


class TerminalSize(KubernetesStruct, frozen=True):
    """The terminal's size now."""

    columns: int
    rows: int


class ExitStatus(KubernetesStruct, frozen=True):
    """How a command ended. ``message`` says what is not the command's own doing."""

    exit_code: int
    message: str = ""


class PortForwardParams(StreamParams, frozen=True):
    """The pod's ports; which one is said with each connection."""


class PortChannel(KubernetesStruct, frozen=True):
    """The value of a channel ``port``: a TCP port, as the pod itself reaches it on its loopback."""

    port: int
