"""The real program under test: how to start it, feed it, listen to it, and trouble it."""
