"""The topic names under ``edge/v1/<cluster>/``, made and parsed in one place."""

import msgspec


class Topics(msgspec.Struct, frozen=True):
    """Every topic of one cluster. ``node``, ``user`` and the like are single topic levels."""

    cluster: str

    @property
    def prefix(self) -> str:
        """What every topic of the cluster begins with, with its closing slash."""
        return f"edge/v1/{self.cluster}/"

    def desired(self, node: str) -> str:
        """Retained: the node's signed index."""
        return f"{self.prefix}nodes/{node}/desired"

    def object(self, digest: str) -> str:
        """Retained: one object's blob, by the SHA-256 of its canonical bytes."""
        return f"{self.prefix}objects/{digest}"

    def status(self, node: str) -> str:
        """Retained: the node's NodeStatus."""
        return f"{self.prefix}nodes/{node}/status"

    def online(self, node: str) -> str:
        """Retained, and the session's will: the node's presence."""
        return f"{self.prefix}nodes/{node}/online"

    def pod(self, node: str, namespace: str, name: str) -> str:
        """Retained: one pod's status."""
        return f"{self.prefix}nodes/{node}/pods/{namespace}/{name}"

    def events(self, node: str) -> str:
        """Not retained: Kubernetes Events out of the outbox."""
        return f"{self.prefix}nodes/{node}/events"

    def audit(self, node: str) -> str:
        """Not retained: rows of the node's audit log out of the outbox."""
        return f"{self.prefix}nodes/{node}/audit"

    def logs(self, node: str) -> str:
        """Not retained: logs out of the spool (``edgeagent.wire.logreport``)."""
        return f"{self.prefix}nodes/{node}/logs"

    def metrics(self, node: str) -> str:
        """Not retained: metrics out of the spool."""
        return f"{self.prefix}nodes/{node}/metrics"

    def node_rpc(self, node: str, method: str) -> str:
        """A signed request to a node."""
        return f"{self.prefix}nodes/{node}/rpc/{method}"

    def stream(self, node: str, user: str, stream: str) -> str:
        """What an operator's stream says to a node; the broker lets only ``user`` publish here."""
        return f"{self.prefix}nodes/{node}/streams/{user}/{stream}"

    def hub_rpc(self, user: str, method: str) -> str:
        """A signed request to the hub; the broker lets only ``user`` publish here."""
        return f"{self.prefix}hub/rpc/{user}/{method}"

    def replies(self, user: str, session: str) -> str:
        """Where the answers to one client session go; the broker lets only ``user`` read here."""
        return f"{self.prefix}replies/{user}/{session}"

    def enrolment_request(self, channel: str) -> str:
        """What a device that is no node yet asks of the hub; ``channel`` is its MQTT client id."""
        return f"{self.prefix}enrolment/{channel}/request"

    def enrolment_answer(self, channel: str) -> str:
        """The hub's answer; the broker lets only the client of that id read here."""
        return f"{self.prefix}enrolment/{channel}/answer"

    def levels(self, topic: str) -> list[str]:
        """The levels of ``topic`` below the prefix; empty where it is not of this cluster."""
        return topic.removeprefix(self.prefix).split("/") if topic.startswith(self.prefix) else []
