"""Node pressure: what is watched, when it is looked at, what is reclaimed, and which pod goes when it must.

``signals``, ``cgroups``, ``psi`` read the machine; ``amounts``, ``thresholds``, ``ranking``, ``limits``,
``schedule`` and ``imagenames`` decide and touch nothing; ``images`` and ``logs`` reclaim; ``manager`` drives
them all.
"""
