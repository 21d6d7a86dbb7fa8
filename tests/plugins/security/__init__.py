"""Tests of the security plugin."""
