"""Tests of the contract that plugins are written against."""
