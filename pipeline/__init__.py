"""Live two-stream action recognition: the part that runs. Never imports torch."""
