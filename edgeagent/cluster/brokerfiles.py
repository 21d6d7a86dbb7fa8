"""The broker's files, written from the settings and the store, and the broker told to read them again.

May not make keys or certificates. Only what Mosquitto reads again on SIGHUP changes while it runs: the ACL
files and the list of revoked certificates.
"""

import os
import pwd
import signal
from collections.abc import Iterable

from edgeagent.cluster.layout import PUBLIC, HubFiles, write_file
from edgeagent.cluster.mosquitto import broker_acl, broker_config
from edgeagent.cluster.settings import HubSettings

MAX_COMMAND_BYTES = 65_536


def write_config(
    files: HubFiles, settings: HubSettings, *, final: HubFiles | None = None, replace: bool = False
) -> None:
    """The configuration, and the file of passwords. ``final``: where ``files`` will lie."""
    final = final or files
    write_file(files.mosquitto_config, broker_config(final, settings, user=_owner()), PUBLIC, replace=replace)
    # Mosquitto wants nobody else to be able to change or read it.
    write_file(files.mosquitto_passwords, "", replace=replace)


def write_rules(
    files: HubFiles,
    settings: HubSettings,
    *,
    revoked: str | None,
    refused: Iterable[str] = (),
    operators: Iterable[str] = (),
    replace: bool = False,
) -> None:
    """Who may do what: the CRL ``revoked`` (PEM; None: as it is), and an ACL that denies ``refused`` all.

    ``operators``: as of ``broker_acl``.
    """
    if revoked is not None:
        write_file(files.revocation_list, revoked, PUBLIC, replace=replace)
    write_file(files.mosquitto_acl, broker_acl(settings.cluster, refused, operators), replace=replace)


def notify_broker(files: HubFiles) -> bool:
    """Have the broker read its rules anew (SIGHUP). False where it is not this one's to tell.

    The process that the file names is told only if it is a broker with this very configuration: after a crash
    the number may be anybody's.
    """
    try:
        process = int(files.mosquitto_pid.read_text()[:20])
        handle = os.pidfd_open(process)
    except (OSError, ValueError):
        return False
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            arguments = file.read(MAX_COMMAND_BYTES).split(b"\0")
        if os.fsencode(files.mosquitto_config) not in arguments:
            return False
        signal.pidfd_send_signal(handle, signal.SIGHUP)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _owner() -> str:
    """Mosquitto, started as root, becomes the user to whom its key belongs: the one who runs this."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
