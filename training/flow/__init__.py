"""The network behind the flow method ``deep``: rendered motion, training, export (PyTorch)."""
