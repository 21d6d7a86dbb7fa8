"""Fuzz targets, one for each parser of bytes from outside, and what they found: ``./dev fuzz``.

A target takes any bytes and must return: only the errors that a parser declares are caught in it. The
committed corpora are replayed in the usual test suite, where atheris is not needed.
"""
