"""Checkpoint to model pack (torch, onnx); ``pipeline`` never imports it."""

SMALL_NETWORKS = ("spatial", "temporal")
"""The networks that can be written in fewer bits."""
