"""Tests of the logs plugin."""
