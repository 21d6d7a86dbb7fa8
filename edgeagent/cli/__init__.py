"""Floor 3: ``edgeagent``, ``edgectl`` and ``edgehub``. Parse arguments, call one thing, print.

Holds no decision that another program could need; nothing imports it.
"""
