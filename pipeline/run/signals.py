"""Signals that stop the program. Handlers only record; the loop acts."""

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""What a terminal sends to all processes in its foreground: ^C, ^\\ and its own end."""


class StopSignals:
    """Counts SIGINT, SIGTERM, SIGQUIT and SIGHUP from now until :meth:`restore`.

    ``shared_memory``: whether this process will use any.
    """

    def __init__(self, *, shared_memory: bool = True) -> None:
        self.count = 0
        if shared_memory:
            _start_resource_tracker()
        self._before: dict[signal.Signals, Any] = {}
        for number in (*OF_THE_TERMINAL, signal.SIGTERM):
            before = signal.getsignal(number)
            # Whoever starts it with nohup wants it to outlive the terminal.
            if number != signal.SIGHUP or before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Handle them as before."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def ignore_terminal() -> None:
    """Leave what the terminal sends to the supervisor, as a stage does.

    It tells the stages to stop in the order of the data.
    """
    for number in OF_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_THE_TERMINAL)


@contextlib.contextmanager
def terminal_held_back() -> Iterator[None]:
    """A process that is started meanwhile gets nothing from the terminal until it asks for it.

    It would not know yet what to do about it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Start Python's watcher over shared memory so that the terminal doesn't end it.

    It ignores SIGINT and SIGTERM by itself, and inherits what is ignored here.
    """
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGQUIT, signal.SIGHUP)}
    try:
        resource_tracker.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
