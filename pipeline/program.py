"""Where this program lies and how it is called, for messages that say what to type.

In a checkout the packages stand side by side. The wheel has all of them below ``two_stream``
(setup.py), so that none is called ``pipeline`` or ``export`` among other people's packages.
"""

import os
import signal
import site
from collections.abc import Callable, Sequence
from pathlib import Path

CommandLine = Callable[[Sequence[str], str | None], None]
"""Arguments and the name to show in usage lines; ends with :class:`SystemExit`."""

PROJECT = Path(__file__).resolve().parents[1]
"""The folder with ``models/`` and ``configs/``: of the checkout, or ``two_stream`` as installed."""

INSTALLED = __package__ != "pipeline"
"""Whether this is ``two_stream.pipeline``, out of the wheel."""

BRIDGES = "two_stream.bridges" if INSTALLED else "bridges"
"""The package that is started for each bridge of a config."""

_IN_A_CHECKOUT = {
    "run": "python run_stream.py",
    "keys": "python -m pipeline.keys",
    "bridge": "python -m bridges",
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
    """What a user types for ``run``, ``keys``, ``bridge``, ``train`` or ``export``."""
    return f"two-stream {name}" if INSTALLED else _IN_A_CHECKOUT[name]


def load_command(load: Callable[[], CommandLine]) -> CommandLine:
    """What ``load`` imports. Ctrl-C meanwhile ends the program, and a missing library is one line.

    Python answers both with a traceback. Raises :class:`SystemExit`.
    """
    # pydantic would look for plug-ins in every installed package, which takes longer than all else
    # that it does. The stages inherit it.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return _loaded(load)
    finally:
        signal.signal(signal.SIGINT, before)


def _loaded(load: Callable[[], CommandLine]) -> CommandLine:
    try:
        return load()
    except ImportError as error:
        raise SystemExit(f"error: {missing_library(error)}") from None


def missing_library(error: ImportError) -> str:
    """What is missing in this installation, and what to type."""
    if isinstance(error, ModuleNotFoundError):
        return f"this Python lacks {error.name}; {_install()}"
    of_system = "cannot open shared object file" in str(error)
    remedy = "on Debian: apt install libgl1 libglib2.0-0" if of_system else _install()
    return f"a library can't be loaded: {error}; {remedy}"


def _install() -> str:
    if INSTALLED:
        return "install it again: pip install --force-reinstall two-stream"
    return "after `make run` type `. .venv/bin/activate` first, or install it: pip install ."
