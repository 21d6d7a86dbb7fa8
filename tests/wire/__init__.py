"""Tests of the wire: formats, trust, and the MQTT session."""
