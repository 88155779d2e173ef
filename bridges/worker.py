"""Calls that may hang: the bridge can stop meanwhile, and goes on without them after a while."""

import threading
from collections.abc import Callable
from typing import TypeVar

from bridges.receiver import Away

_LOOK_S = 0.1
MOST_HANGING = 8
"""Calls that were given up and still hang, at most."""

_Result = TypeVar("_Result")


class Worker:
    """Makes calls in threads. One at a time is waited for."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._hanging: list[threading.Thread] = []

    def call(self, work: Callable[[], _Result], seconds: float) -> _Result:
        """What ``work`` returns or raises; :class:`Away` after ``seconds``, or at a stop."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= MOST_HANGING:
            raise Away(f"{len(self._hanging)} tries hang and don't end")
        results: list[_Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        for _ in range(max(1, round(seconds / _LOOK_S))):
            thread.join(_LOOK_S)
            if not thread.is_alive():
                break
            if self._stopping():
                raise Away("told to stop in the middle of a try")
        if errors:
            raise errors[0]
        if results:
            return results[0]
        self._hanging.append(thread)
        raise Away(f"no whole answer within {seconds:g} s")
