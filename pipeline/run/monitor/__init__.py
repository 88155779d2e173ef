"""What the program tells those who watch over it: metrics, and whether it is alive and ready."""
