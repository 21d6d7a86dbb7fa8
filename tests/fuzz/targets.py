"""All targets by name, and where their corpora lie."""

from collections.abc import Mapping
from pathlib import Path

from tests.fuzz.files import FILES
from tests.fuzz.messages import MESSAGES
from tests.fuzz.metrics import METRICS
from tests.fuzz.target import Target

TARGETS: Mapping[str, Target] = {**MESSAGES, **METRICS, **FILES}
CORPUS = Path(__file__).parent / "corpus"
