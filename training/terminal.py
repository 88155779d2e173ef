"""The terminal output of the training commands: progress, lines and errors.

On a terminal, progress is a bar. In a file or a pipe it is a line now and then.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_SIGNAL = 128
EVERY_S = 10.0
"""Time between two lines about one task."""


class _LastingConsole(Console):
    """A console whose end isn't the end of the work: a closed pipe and a full disk only silence it.

    Hours of training may hang on a ``| head``.
    """

    def __init__(self) -> None:
        super().__init__(stderr=True)
        self.quiet = False

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except (OSError, ValueError):  # ValueError: the file is closed
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            # Python writes what it has buffered when it ends.
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)


console = _LastingConsole()


class Bar(Protocol):
    """What shows progress. Use it in ``with``; tasks have a field ``note``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
        /,
    ) -> None: ...

    def add_task(
        self, description: str, /, *, total: float, completed: int = 0, note: str = ""
    ) -> TaskID: ...

    def update(self, task: TaskID, /, *, completed: float, note: str) -> None: ...

    def advance(self, task: TaskID, /) -> None: ...


class _Task:
    """A task of :class:`Lines`: how far it is, and when it was told."""

    def __init__(self, name: str, total: float, completed: float, now_s: float) -> None:
        self.name, self.total, self.completed, self.note = name, total, completed, ""
        self.began_at, self.began_s, self.told_s = completed, now_s, now_s

    def line(self, now_s: float) -> str:
        words = [f"{self.name}: {self.completed:g} of {self.total:g}"]
        if self.note:
            words.append(self.note)
        done, left = self.completed - self.began_at, self.total - self.completed
        if done > 0 and left > 0:
            words.append(f"{_duration((now_s - self.began_s) / done * left)} left")
        return ", ".join(words)


class Lines:
    """Progress as lines, for files and pipes: at the start, every :data:`EVERY_S`, at the end."""

    def __init__(
        self, say: Callable[[str], None], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock_s = say, clock_s
        self._tasks: list[_Task] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_task(
        self, description: str, /, *, total: float, completed: int = 0, note: str = ""
    ) -> TaskID:
        task = _Task(description, total, completed, self._clock_s())
        task.note = note
        self._tasks.append(task)
        self._tell(task)
        return TaskID(len(self._tasks) - 1)

    def update(self, task: TaskID, /, *, completed: float, note: str) -> None:
        self._tasks[task].note = note
        self._reach(self._tasks[task], completed)

    def advance(self, task: TaskID, /) -> None:
        self._reach(self._tasks[task], self._tasks[task].completed + 1)

    def _reach(self, task: _Task, completed: float) -> None:
        finished = completed >= task.total > task.completed
        task.completed = completed
        if finished or self._clock_s() - task.told_s >= EVERY_S:
            self._tell(task)

    def _tell(self, task: _Task) -> None:
        task.told_s = self._clock_s()
        self._say(task.line(task.told_s))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def progress_bar() -> Bar:
    """A bar on a terminal, lines elsewhere."""
    if not console.is_terminal or console.is_dumb_terminal:
        return Lines(print_line)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
    )  # fmt: skip


def print_line(text: str) -> None:
    """Print a line to standard error without wrapping or markup."""
    console.print(_writable(text), soft_wrap=True, markup=False, highlight=False)


def fail(error: Exception, code: int = EXIT_USAGE) -> typer.Exit:
    """Print an error and return the exception to raise."""
    text = _writable(f"error: {error}")
    console.print(text, style="red", soft_wrap=True, markup=False, highlight=False)
    return typer.Exit(code)


def _writable(text: str) -> str:
    """Without what the terminal can't show: file names needn't be UTF-8."""
    encoding = console.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
