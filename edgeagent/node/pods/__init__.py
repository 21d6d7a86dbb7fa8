"""The pod lifecycle: from a Pod in desired state to containers that run, and the status that says so.

Built on the runtime protocol alone, so that every runtime plugin gets all of it. May not know where
desired state came from or where status goes, and nothing of Podman.
"""
