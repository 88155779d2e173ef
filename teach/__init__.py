"""Teach: a new action from a few clips, in minutes and without torch.

The streams of the base (:mod:`teach.base`) are frozen; only the head is fitted. From the bottom up:

- :mod:`teach.base` reads ``models/base``: networks, and how the head pools their features.
- :mod:`teach.pooling` makes one vector of a window's features; :mod:`teach.head_graph` writes the
  same as ``fusion.onnx``.
- :mod:`teach.fit` fits the head to vectors, :mod:`teach.examples` makes windows of clips.
- :mod:`teach.trial` leaves groups of clips out and measures; :mod:`teach.verdict` says in words
  what that means.
"""
