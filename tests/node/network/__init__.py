"""Tests of what the network plugin is told."""
