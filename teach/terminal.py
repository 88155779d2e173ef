"""A terminal as the stage of a recording: small pictures of half blocks, a bell, single keys."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipeline.arrays import Frame, picture_size
from pipeline.pictures import small_bgr
from teach.record import Answer

COLUMNS = 64
LINES_KEPT = 6
"""Lines of the terminal that a picture leaves free."""
UPPER_HALF = "▀"
KEYS = {
    "\n": Answer.KEEP, "\r": Answer.KEEP, "k": Answer.KEEP, "a": Answer.AGAIN, "q": Answer.STOP,
}  # fmt: skip


def blocks_size(picture: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """(height, width) of a picture of half blocks within some columns and rows; height is even.

    ``picture`` is (height, width). A half block is about as wide as it is high.
    """
    height, width = picture
    scale = min(columns / width, 2 * rows / height)
    return max(2, 2 * round(height * scale / 2)), max(1, round(width * scale))


def half_blocks(picture: Frame) -> Text:
    """A picture (2 r, c, 3) uint8 BGR as r rows of c letters, each for two pixels."""
    text = Text(no_wrap=True, end="")
    for upper, lower in zip(picture[::2], picture[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append(UPPER_HALF, f"{_colour(above)} on {_colour(below)}")
        text.append("\n")
    return text


def _colour(bgr: list[int]) -> str:
    blue, green, red = bgr
    return f"#{red:02x}{green:02x}{blue:02x}"


class Terminal:
    """Shows a recording where the console is a terminal; elsewhere it only says what is kept."""

    def __init__(self, console: Console, yes: bool) -> None:
        """With ``yes`` each example is kept without a question."""
        self._console, self._yes = console, yes
        self._live = Live(console=console, auto_refresh=False, transient=True)

    @contextmanager
    def open(self) -> Iterator[None]:
        """The terminal gives single keys meanwhile, and doesn't print them."""
        with _single_keys(not self._yes):
            if not self._console.is_terminal:
                yield
                return
            with self._live:
                yield

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def show(self, line: str, picture: Frame) -> None:
        if not self._console.is_terminal:
            return
        columns = min(COLUMNS, self._console.width)
        rows = max(1, self._console.height - LINES_KEPT)
        size = blocks_size(picture_size(picture.shape), columns, rows)
        blocks = half_blocks(small_bgr(picture, size))
        self._live.update(Group(blocks, Text(line, "bold")), refresh=True)

    def beep(self) -> None:
        if self._console.is_terminal:
            self._console.bell()

    def answer(self) -> Answer | None:
        if self._yes:
            return Answer.KEEP
        if not select.select([sys.stdin], [], [], 0)[0]:
            return None
        typed = os.read(sys.stdin.fileno(), 64).decode("utf-8", "ignore")
        if not typed:  # nobody can answer any more
            return Answer.STOP
        return KEYS.get(typed[-1].lower())


@contextmanager
def _single_keys(wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)  # also: no echo; Ctrl-C still ends the program
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
