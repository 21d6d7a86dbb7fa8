"""What an agent does about its keys before it uses them: closes them to others, seals them, opens them.

What is wrong is repaired and told rather than refused: a node must not stand still over the mode of a file.
May not know what the keys are used for.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgeagent.api.errors import PermanentError
from edgeagent.api.objects.base import ObjectReference
from edgeagent.node.config import AgentConfig
from edgeagent.node.events import EventRecorder
from edgeagent.node.identity import IdentityDir
from edgeagent.node.keyfiles import KeyFiles, SealWith
from edgeagent.node.privatefiles import close_to_others

log = logging.getLogger(__name__)


class GuardedIdentity(msgspec.Struct, frozen=True):
    """The identity's files. ``keys``: the folder where the sealing key can be read.

    ``problems``: what a person should know, each as reason and message.
    """

    files: IdentityDir
    keys: Path
    problems: Sequence[tuple[str, str]]

    def tell(self, events: EventRecorder, node: str) -> None:
        """Record the problems as Warning events of the node."""
        for reason, message in self.problems:
            events.record(ObjectReference(kind="Node", name=node), "Warning", reason, message)


def identity_dir(config: AgentConfig, seal: SealWith = "") -> IdentityDir:
    """The folder of this machine's identity; new keys in it are sealed with ``seal``, or as configured."""
    folder, identity = config.state_dir / "identity", config.identity
    seal = seal or (identity.seal_with if identity.seal else "")
    return IdentityDir(folder, KeyFiles(folder, opened=config.run_dir / "identity", seal=seal))


def guard_identity(config: AgentConfig) -> GuardedIdentity:
    """Close the identity to other users, seal what is to be sealed, and open what the plugins need."""
    files = identity_dir(config)
    problems = _guard(files) if files.path.exists() else []
    keys = files.path
    try:
        keys = files.keys.usable(files.sealing_key).parent
    except PermanentError as error:
        problems.append(("IdentityNotOpened", f"Secrets cannot be opened: {error}"))
    for _, message in problems:
        log.warning("%s", message)
    return GuardedIdentity(files, keys, problems)


def _guard(files: IdentityDir) -> list[tuple[str, str]]:
    found = []
    try:
        if exposed := close_to_others(files.path):
            found.append(
                (
                    "IdentityExposed",
                    f"other users of this machine could read or change {', '.join(exposed)} in {files.path};"
                    " now they cannot. Should one have done so: `edgehub node revoke`, and enrol anew",
                )
            )
        if sealed := files.keys.seal_what_is_in_clear(files.private_key, files.sealing_key):
            log.info("sealed for this machine: %s", ", ".join(path.name for path in sealed))
    except OSError as error:
        found.append(("IdentityNotGuarded", f"the keys in {files.path} cannot be closed or sealed: {error}"))
    return found
