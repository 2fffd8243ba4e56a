"""A typed function becomes a command."""
