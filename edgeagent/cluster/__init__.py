"""Floor 2: the hub, beside the broker. Store, publishing, enrolment, the operators' API.

May not import the agent (``node``) or the command line (``cli``): the two sides share ``wire`` and ``api``.
"""
