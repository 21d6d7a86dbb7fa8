"""An admission plugin in memory, which tests tell what to say."""

from collections.abc import Callable

from edgeagent.api.admission import AdmissionRequest, AdmissionWarning, Review, Violation
from edgeagent.api.objects.pod import Pod


class FakeAdmission:
    """Implements ``Admission``: ``change`` mutates, ``violations`` refuse; ``requests`` has what was told."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.failures: list[Exception] = []
        self.change: Callable[[Pod], Pod] = lambda pod: pod
        self.warnings: list[AdmissionWarning] = []
        self.audit: list[str] = []
        self.requests: list[AdmissionRequest] = []
        self.reviews = 0

    def mutate(self, pod: Pod, request: AdmissionRequest) -> Pod:
        """The pod as it should run."""
        del request
        if self.failures:
            raise self.failures.pop(0)
        return self.change(pod)

    def review(self, pod: Pod, request: AdmissionRequest) -> Review:
        """What forbids the pod to run."""
        del pod
        self.reviews += 1
        self.requests.append(request)
        return Review(violations=list(self.violations), warnings=self.warnings, audit=self.audit)
