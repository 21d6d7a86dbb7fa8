"""The hub, through its own broker where it matters."""
