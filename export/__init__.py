"""Checkpoint to model pack (torch, onnx); ``pipeline`` never imports it."""
