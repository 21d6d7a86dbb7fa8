"""What edgeagent costs, measured on real parts against a baseline in the same run: `./dev bench NAME`.

Nothing here is a test: a figure is printed beside its budget, and a person judges.
"""
