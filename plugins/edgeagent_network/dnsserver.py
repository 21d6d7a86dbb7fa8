"""The node's DNS server: unbound, run beside the agent. It answers the cluster's names and asks for others.

The cluster's names are a zone file that it reads anew when told; what it remembers of other names stays. The
names of the cluster's addresses are told one by one, for those around them are for others to answer. All it
needs to start is in its folder, so that it can be started again at any time, with nobody's help.
docs/adr/0013-dns-server.md says why unbound.
"""

import os
import pwd
import shutil
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError, TemporaryError
from edgeagent.api.network import NetworkState, Problem
from edgeagent_network.config import NetworkConfig
from edgeagent_network.daemon import Daemon
from edgeagent_network.names import Names, Record
from edgeagent_network.programs import Runner, Starter, run_program, start_program
from edgeagent_network.upstreams import Upstreams

USER = "unbound"
READY = b"start of service"
START_SECONDS = 5.0
RETRY_SECONDS = 2.0
GIVEN_UP = 3
"""Ended so often without having served for a while, pods are no more told to ask it."""
STALE_SECONDS = 7 * 86400
"""For how long after its end an answer is still given while nobody can be asked (RFC 8767)."""
_REVERSE_ZONES = ("in-addr.arpa.", "ip6.arpa.")
_APPARMOR = "sys/module/apparmor/parameters/enabled"

_CONFIGURATION = """\
server:
  interface: {address}
  directory: ""
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  verbosity: 0
  module-config: "iterator"
  access-control: 0.0.0.0/0 allow
  access-control: ::0/0 allow
  do-not-query-localhost: no
  hide-identity: yes
  hide-version: yes
  num-threads: 1
  so-reuseport: no
  so-sndbuf: 0
  msg-cache-size: 1m
  rrset-cache-size: 2m
  key-cache-size: 16k
  neg-cache-size: 16k
  msg-cache-slabs: 1
  rrset-cache-slabs: 1
  infra-cache-slabs: 1
  key-cache-slabs: 1
  infra-cache-numhosts: 100
  infra-keep-probing: yes
  outgoing-range: 128
  num-queries-per-thread: 64
  incoming-num-tcp: 16
  outgoing-num-tcp: 8
  serve-expired: yes
  serve-expired-ttl: {stale}
  serve-expired-client-timeout: 1000
  unblock-lan-zones: yes
  insecure-lan-zones: yes
  local-zone: "home.arpa." nodefault
  local-zone: "{domain}" transparent
{zones}
{pointers}
remote-control:
  control-enable: yes
  control-use-cert: no
  control-interface: "/proc/self/cwd/control/socket"
auth-zone:
  name: "{domain}"
  zonefile: "zone"
  for-downstream: no
  for-upstream: yes
  fallback-enabled: no
# Without an address it is excepted from the next one.
forward-zone:
  name: "{domain}"
{forward}
"""


class Served(msgspec.Struct, frozen=True):
    """``addresses``: where pods may ask. ``retry_after`` seconds it is to be looked at again; 0 for never."""

    addresses: list[str] = msgspec.field(default_factory=list)
    problems: list[Problem] = msgspec.field(default_factory=list)
    retry_after: float = 0.0


class DnsServer:
    """One for a node. ``run`` and ``start`` run programs in the node's network; ``run_dir`` is the plugin's.

    ``root`` is where the node's files lie; ``find`` says where a program is.
    """

    def __init__(
        self,
        config: NetworkConfig,
        run_dir: Path,
        *,
        run: Runner = run_program,
        start: Starter = start_program,
        root: Path = Path("/"),
        find: Callable[[str], str | None] = shutil.which,
    ) -> None:
        self._config = config
        self._folder = run_dir / "dns"
        self._run = run
        self._start = start
        self._root = root
        self._find = find
        self._upstreams = Upstreams(config, root)
        self._names: Names | None = None
        self._daemon: Daemon | None = None
        self._zone = ""
        self._forwards: tuple[str, ...] = ()
        self._pointers: Mapping[str, tuple[Record, ...]] = {}
        self._moved: set[str] = set()  # the names of addresses that the running server must be told anew
        self._connected = False
        self._stale: list[tuple[str, ...]] = []  # what the running server must still be told
        self._served = False

    @property
    def pid(self) -> int:
        """The server's, 0 while it does not run."""
        return self._daemon.pid if self._daemon is not None else 0

    def reconcile(self, state: NetworkState) -> Served:
        """Have it answer as ``state`` says. What is wrong is a Problem of the node or of a Service."""
        if self._config.dns == "off":
            return Served()
        try:
            problems = self._serve(state)
        except (PermanentError, TemporaryError) as error:
            reason = error.reason or "DnsFailed"
            retry = RETRY_SECONDS if isinstance(error, TemporaryError) else 0.0
            return Served(self._addresses(), [_problem(state.node, reason, str(error))], retry)
        daemon = self._daemon
        if daemon is not None and daemon.serving:
            self._served = True
            return Served(self._addresses(), problems)
        said = f"the DNS server does not run: {daemon.said if daemon is not None else ''}"
        problems.append(_problem(state.node, "DnsNotServing", said))
        return Served(self._addresses(), problems, RETRY_SECONDS)

    def end(self) -> None:
        """End the server. Pods that were told of it get no answers any more."""
        if self._daemon is not None:
            self._daemon.end()
            self._daemon = None
        self._served = False

    def _addresses(self) -> list[str]:
        daemon = self._daemon
        trusted = daemon is not None and (daemon.serving or daemon.failures < GIVEN_UP)
        return [self._config.dns_address] if self._served and trusted else []

    def _serve(self, state: NetworkState) -> list[Problem]:
        self._names = names = self._names or self._checked()
        zone, problems = names.zone(state)
        forwards, wrong = self._upstreams.find()
        problems += [_problem(state.node, "UpstreamInvalid", said) for said in wrong]
        if self._daemon is None:
            self._check_programs()
            self._prepare_folder()
        self._write(names, zone, forwards)
        if state.connected and not self._connected:
            self._stale.append(("flush_infra", "all"))  # servers that did not answer may do so now
        self._connected = state.connected
        if self._daemon is None:
            self._add_address()
            self._stale.clear()
            self._moved.clear()
            self._daemon = Daemon(self._argv(), self._folder, READY, self._start)
            self._daemon.wait_ready(START_SECONDS)
        elif (self._stale or self._moved) and self._daemon.serving:
            self._tell()
        return problems

    def _write(self, names: Names, zone: str, forwards: tuple[str, ...]) -> None:
        pointers, before = names.pointers, self._pointers
        if zone is not self._zone or self._daemon is None:
            _replace(self._folder / "zone", zone)
            self._zone = zone
            self._stale += [("auth_zone_reload", names.domain), ("flush_zone", names.domain)]
        if forwards != self._forwards or pointers is not before or self._daemon is None:
            _replace(self._folder / "unbound.conf", self._configuration(names.domain, forwards, pointers))
        if forwards != self._forwards:
            self._stale += [("forward_add", ".", *forwards), ("local_zone_remove", ".")]
            self._stale += [("local_zone", zone, "transparent") for zone in _REVERSE_ZONES]
            self._forwards = forwards
        if pointers is not before:
            names_of_both = before.keys() | pointers.keys()
            self._moved |= {name for name in names_of_both if before.get(name) != pointers.get(name)}
            self._pointers = pointers

    def _tell(self) -> None:
        """Tell the running server what changed; what it did not take stays to be told."""
        for command in dict.fromkeys(self._stale):
            self._control(*command)
        self._stale.clear()
        if self._moved:
            moved = sorted(self._moved)
            added = [record.line() for name in moved for record in self._pointers.get(name, ())]
            self._control("local_datas_remove", stdin="".join(f"{name}\n" for name in moved))
            self._control("local_datas", stdin="".join(added))
            self._moved.clear()

    def _control(self, *command: str, stdin: str = "") -> None:
        files = ["-c", str(self._folder / "unbound.conf"), "-s", str(self._folder / "control" / "socket")]
        self._run(["unbound-control", "-q", *files, *command], stdin)

    def _configuration(
        self, domain: str, forwards: tuple[str, ...], pointers: Mapping[str, tuple[Record, ...]]
    ) -> str:
        # With nobody to ask it would go and ask the root servers.
        kind = "transparent" if forwards else "refuse"
        zones = _REVERSE_ZONES if forwards else (".", *_REVERSE_ZONES)
        records = (record for several in pointers.values() for record in several)
        lines = ["forward-zone:", '  name: "."', *(f"  forward-addr: {server}" for server in forwards)]
        return _CONFIGURATION.format(
            address=ip_address(self._config.dns_address),
            stale=STALE_SECONDS,
            domain=domain,
            zones="\n".join(f'  local-zone: "{zone}" {kind}' for zone in zones),
            pointers="\n".join(f'  local-data: "{record.line().strip()}"' for record in records),
            forward="\n".join(lines) if forwards else "",
        )

    # What it needs

    def _checked(self) -> Names:
        try:
            ip_address(self._config.dns_address)
        except ValueError:
            raise PermanentError(
                f"plugins.network.dns_address: {self._config.dns_address!r} is not an IP address",
                reason="ConfigInvalid",
            ) from None
        try:
            return Names(self._config.cluster_domain, self._config.dns_address)
        except PermanentError as error:
            raise PermanentError(f"plugins.network.cluster_domain: {error}", reason="ConfigInvalid") from None

    def _check_programs(self) -> None:
        for program in ("unbound", "unbound-control", "setpriv"):
            if self._find(program) is None:
                raise PermanentError(
                    f"{program} is not installed, so pods have the node's DNS and not the cluster's names: "
                    "install the packages unbound and util-linux",
                    reason="ProgramMissing",
                )

    def _prepare_folder(self) -> None:
        """The server begins in it, and need not get through the folders above, which are the agent's alone.

        Only that of its control socket is its own: root never writes where another may.
        """
        try:
            user = pwd.getpwnam(USER)
            self._folder.mkdir(mode=0o755, exist_ok=True)
            self._folder.chmod(0o755)
            control = self._folder / "control"
            control.mkdir(mode=0o700, exist_ok=True)
            os.chown(control, user.pw_uid, user.pw_gid, follow_symlinks=False)
        except KeyError:
            raise PermanentError(f"there is no user {USER}", reason="ProgramMissing") from None
        except OSError as error:
            raise TemporaryError(f"the DNS server's folder: {error}", reason="DnsFailed") from error

    def _add_address(self) -> None:
        """On the loopback link, which is always there; pods get to it by their default route."""
        address = ip_address(self._config.dns_address)
        if address.version == 4:
            argv = ["ip", "address", "replace", f"{address}/32", "dev", "lo", "scope", "host"]
        else:
            argv = ["ip", "address", "replace", f"{address}/128", "dev", "lo"]
        self._run(argv)

    def _argv(self) -> list[str]:
        """As a user that may do nothing but take port 53, and gone when the agent is."""
        capability = "-all,+net_bind_service"
        return [
            "setpriv",
            *(f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--pdeathsig=TERM"),
            *(f"--bounding-set={capability}", f"--inh-caps={capability}", f"--ambient-caps={capability}"),
            # Debian's profile lets it read files below /etc/unbound and /var/lib/unbound alone.
            *(["--apparmor-profile=unconfined"] if self._has_apparmor() else []),
            *("unbound", "-d", "-c", "unbound.conf"),
        ]

    def _has_apparmor(self) -> bool:
        try:
            return (self._root / _APPARMOR).read_text().startswith("Y")
        except OSError:
            return False


def _problem(node: str, reason: str, message: str) -> Problem:
    return Problem(kind="Node", namespace="", name=node, reason=reason, message=message)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text)
        new.chmod(0o644)  # the server reads it as another user, whatever the umask
        new.replace(path)
    except OSError as error:
        raise TemporaryError(f"the DNS server's files: {error}", reason="DnsFailed") from error
