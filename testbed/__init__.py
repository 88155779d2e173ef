"""The real program under test: starts it, feeds it, listens to it, and disturbs it."""
