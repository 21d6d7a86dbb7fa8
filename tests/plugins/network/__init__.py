"""Tests of the network plugin, on the kernel of this machine in namespaces of their own."""
