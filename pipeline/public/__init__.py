"""What other programs see: events, status, the event log, and who may listen."""
