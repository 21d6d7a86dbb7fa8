"""Node pressure: what is watched, when it is looked at, what is reclaimed, and which pod goes when it must.

``signals``, ``cgroups``, ``psi`` read the machine; ``amounts``, ``thresholds``, ``ranking``,
``schedule``, ``limits``, ``comeback`` and ``imagenames`` decide and touch nothing; ``images``, ``dead`` and
``logs`` reclaim; ``manager`` drives them all, and says by ``gate`` who must wait. Pods come as plain values:
it may not know their workers.
"""
