"""Forgetting the UDP flows of endpoints that went, by conntrack(8); ``translation`` says which these are."""

from collections.abc import Mapping

from edgeagent.api.errors import EdgeAgentError
from edgeagent.api.network import Problem
from edgeagent_network.programs import Runner
from edgeagent_network.ruleset import Fragment
from edgeagent_network.translation import conntrack_input, removed_udp_endpoints


class StaleFlows:
    """Remembers the fragments that were in force."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._fragments: Mapping[str, Fragment] | None = None

    def clear(self, fragments: Mapping[str, Fragment], node: str) -> list[Problem]:
        """Forget the flows that lead where the fragments before led and these do not; one process at most.

        Call it once the table is made of ``fragments``. The first ones have none before them.
        """
        before, self._fragments = self._fragments, fragments
        stale = removed_udp_endpoints(before, fragments) if before is not None else []
        if not stale:
            return []
        try:
            self._run(["conntrack", "--load-file", "-"], conntrack_input(stale), check=False)
        except EdgeAgentError as error:
            reason = getattr(error, "reason", "") or "NetworkFailed"
            said = f"UDP flows of endpoints that went are not forgotten: {error}"
            return [Problem(kind="NodeNetwork", namespace="", name=node, reason=reason, message=said)]
        return []
