"""Kubernetes objects as frozen, strictly decoded structs.

Field names follow the Kubernetes API (camelCase on the wire, snake_case in Python). Only fields that
edgeagent acts on exist: any other is refused by name. Holds no behaviour beyond decoding and
validation of the object itself.
"""
