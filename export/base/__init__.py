"""Appearance streams of the base: MediaPipe's networks as stateless ONNX graphs."""
