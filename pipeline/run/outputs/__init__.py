"""What the program shows on its own terminal: JSON lines, a live table, or plain lines."""
