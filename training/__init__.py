"""Training of the two streams and their fusion (PyTorch); ``pipeline`` never imports it."""
