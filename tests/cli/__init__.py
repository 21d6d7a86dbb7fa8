"""Tests of the three programs' command lines."""
