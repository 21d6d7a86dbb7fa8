"""The node's memory: one SQLite file, and what is read and written in it.

Owned by the loop thread. Knows rows and transactions; holds no decision about pods, plugins or MQTT.
"""
