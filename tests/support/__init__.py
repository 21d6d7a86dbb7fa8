"""Real parts for tests: Podman, Mosquitto, a registry, child processes, each private to one test process."""
