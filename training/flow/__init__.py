"""The network of the flow method ``deep``: rendered motion, training, export (PyTorch).

Reading order: ``__main__``, ``config``, ``textures``, ``scenes`` and ``camera`` (what it is trained
on), ``train``, ``network``, ``export``.
"""
