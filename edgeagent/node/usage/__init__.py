"""What the node and its containers use, read when somebody asks, from cgroup files and /proc alone.

``kernelfiles`` reads small files, ``cgroups`` finds a container's, ``counters`` reads them, ``interfaces``
and ``machine`` read /proc; ``reader`` makes one reading of all; ``window`` puts two of them together, from
which ``metrics`` makes what ``top`` shows. May not hold: a call to the runtime or any other plugin, a timer
that reads by itself, or a decision about pods.
"""
