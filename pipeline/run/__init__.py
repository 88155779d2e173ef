"""Running the stages: who starts, watches, restarts and stops their processes."""
