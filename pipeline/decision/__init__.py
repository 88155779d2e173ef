"""What becomes of scores: event rules, thresholds, the governor, recordings. Pure."""
