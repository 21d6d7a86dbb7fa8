"""First-party plugin: container logs and the journal, by rules, to Elasticsearch, Loki, OTLP and syslog.

``source`` reads and ``pipeline`` works on what was read; sinks ship what the core has kept meanwhile. A
source never sends, a sink never reads a log, and neither keeps anything on disk: that is the core's. May
import ``edgeagent.api`` alone.
"""
