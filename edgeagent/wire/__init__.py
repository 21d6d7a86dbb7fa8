"""Floor 1: what node and hub must agree on byte for byte.

Topics, canonical bytes and digests, signed envelopes, the index, sealing, remote calls, the reading of
manifests, and the MQTT session that carries them. May not know what a node or a hub does with any of it,
and keeps nothing on disk.
"""
