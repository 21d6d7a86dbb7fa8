"""What the network plugin is told: services with their endpoints, policies, peers; and when it is told.

May not know how any of it is done, nor start or stop a pod: it looks at pods and their statuses alone.
"""
