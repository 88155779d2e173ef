"""The terminal output of the training commands: progress bars, lines and errors."""

import cv2
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EXIT_REFUSED = 1
EXIT_USAGE = 2

console = Console(stderr=True)


def set_threads(count: int) -> None:
    """Set how many threads torch and OpenCV use."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def progress_bar() -> Progress:
    """A progress bar whose tasks have a field ``note``."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
    )  # fmt: skip


def print_line(text: str) -> None:
    """Print a line to standard error without wrapping or markup."""
    console.print(text, soft_wrap=True, markup=False)


def fail(error: Exception, code: int = EXIT_USAGE) -> typer.Exit:
    """Print an error and return the exception to raise."""
    console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
    return typer.Exit(code)
