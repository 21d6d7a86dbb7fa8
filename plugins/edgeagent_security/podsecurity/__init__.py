"""Kubernetes' Pod Security Standards as pure functions: a pod in, what it breaks out.

Knows no namespace's label until ``levels``, reads no file, keeps nothing. The rules, their order and their
words are those of k8s.io/pod-security-admission for Kubernetes 1.37.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""
