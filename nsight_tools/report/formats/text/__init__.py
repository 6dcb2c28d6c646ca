"""text for a terminal."""
