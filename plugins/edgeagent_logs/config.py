"""The section ``[plugins.logs]``: what is read, how much of it, and what is done with it on the way."""

from typing import Annotated, Literal

import msgspec

from edgeagent.api.plugin import PluginConfig
from edgeagent_logs.patterns import checked_pattern
from edgeagent_logs.ruleconfig import MAX_RULES, Glob, Regex, Rule
from edgeagent_logs.sinkconfig import MAX_SINKS, Sink, check_names

Unit = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9:_.@\\*?-]{1,256}$")]
UnitOrNone = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9:_.@\\\\*?-]{0,256}$")]
"""Empty for none."""
Language = Literal["python", "java", "go", "dotnet", "node"]


class RateConfig(PluginConfig, frozen=True):
    """``[plugins.logs.rate]``: how much one container may write, and for how many seconds at once more of it.

    Counted by the times of the lines themselves, so that what waited while the agent was away is no excess.
    """

    lines_per_second: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1000
    bytes_per_second: Annotated[int, msgspec.Meta(ge=1000, le=1_000_000_000)] = 262_144
    burst_seconds: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 10.0


class PatternConfig(PluginConfig, frozen=True):
    """``[[plugins.logs.multiline.patterns]]``: records of such containers begin where ``begins`` is found."""

    begins: Regex
    namespace: Glob | None = None
    pod: Glob | None = None
    container: Glob | None = None
    labels: dict[str, Glob] = {}

    def __post_init__(self) -> None:
        checked_pattern(self.begins, "begins")


class MultilineConfig(PluginConfig, frozen=True):
    """``[plugins.logs.multiline]``: which lines are one record.

    ``languages``: those whose stack traces are known and joined. A record is held for ``timeout_seconds``
    after its last line at most, and is ended after ``max_lines``; ``max_line_bytes`` bounds it too.
    """

    languages: list[Language] = msgspec.field(
        default_factory=lambda: ["python", "java", "go", "dotnet", "node"]
    )
    patterns: Annotated[list[PatternConfig], msgspec.Meta(max_length=50)] = []
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=60)] = 1.0
    max_lines: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 500


class JournalConfig(PluginConfig, frozen=True):
    """``[plugins.logs.journal]``: units of systemd whose messages are read; ``agent`` is the agent's own."""

    agent: UnitOrNone = "edgeagent.service"
    units: Annotated[list[Unit], msgspec.Meta(max_length=100)] = []


class LogsConfig(PluginConfig, frozen=True):
    """What is read of each log.

    ``max_line_bytes``: a longer line is cut there, and says so. ``parse_json``: whether a line that is a JSON
    object is taken apart. ``new_containers``: where a log is begun that was never read before, and is there
    when the agent starts. ``gather_seconds``: how long more is waited for once something was written, so that
    it is kept and shipped together.
    """

    max_line_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1_048_576)] = 65_536
    parse_json: bool = True
    new_containers: Literal["beginning", "end"] = "beginning"
    gather_seconds: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.5
    rate: RateConfig = RateConfig()
    multiline: MultilineConfig = MultilineConfig()
    journal: JournalConfig = JournalConfig()
    rules: Annotated[list[Rule], msgspec.Meta(max_length=MAX_RULES)] = []
    sinks: Annotated[list[Sink], msgspec.Meta(max_length=MAX_SINKS)] = []

    def __post_init__(self) -> None:
        check_names(self.sinks)
