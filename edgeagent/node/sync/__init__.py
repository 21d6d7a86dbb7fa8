"""Between the broker and the store: fetching, checking and switching to desired state; reporting back.

Holds no decision about pods: it changes desired state and wakes whoever acts on it.
"""
