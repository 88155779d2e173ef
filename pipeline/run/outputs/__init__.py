"""What whoever started the program sees: JSON lines, a live table, or plain lines."""
