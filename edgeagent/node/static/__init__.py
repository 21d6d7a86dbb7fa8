"""Static pods: a folder of manifests that this node runs, with or without a hub.

https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/ . Watches and reads the folder, and says
which objects are in it. May not start, stop or report a pod: whoever is told of the objects does.
"""
