"""Where this program lies and how it is called, for messages that say what to type.

In a checkout the packages stand side by side. The wheel has all of them below ``two_stream``
(setup.py), so that none is called ``pipeline`` or ``export`` among other people's packages.
"""

import os
import site
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
"""The folder with ``models/`` and ``configs/``: of the checkout, or ``two_stream`` as installed."""

INSTALLED = __package__ != "pipeline"
"""Whether this is ``two_stream.pipeline``, out of the wheel."""

_IN_A_CHECKOUT = {
    "run": "python run_stream.py",
    "keys": "python -m pipeline.keys",
    "train": "python -m training train",
    "export": "python -m export",
}


def import_path(inherited: str) -> str:
    """``PYTHONPATH`` for a process that imports this package; ``inherited`` is this one's.

    What lies in ``site-packages`` is found there. To name that folder would put it before the
    standard library.
    """
    root = str(PROJECT.parent if INSTALLED else PROJECT)
    known = map(os.path.realpath, (*site.getsitepackages(), site.getusersitepackages()))
    return inherited if root in known else os.pathsep.join(filter(None, (root, inherited)))


def command(name: str) -> str:
    """What a user types for ``run``, ``keys``, ``train`` or ``export``."""
    return f"two-stream {name}" if INSTALLED else _IN_A_CHECKOUT[name]
