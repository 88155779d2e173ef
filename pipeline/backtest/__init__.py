"""Back-test: what a pack would have said of what a memory has kept."""
