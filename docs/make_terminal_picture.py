"""Makes docs/images/terminal.svg: the live table, drawn while the program runs.

``python docs/make_terminal_picture.py [SECONDS]``
"""

import sys
from functools import partial
from io import StringIO
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.config import validate
from pipeline.run.outputs.base import RunView
from pipeline.run.outputs.table import LiveTable
from pipeline.run.supervisor import run
from pipeline.transport.bus import Bus

TARGET = Path(__file__).parent / "images" / "terminal.svg"


class PicturedTable(LiveTable):
    """A live table that keeps the last picture of itself with an action under way."""

    def __init__(self, bus: Bus, view: RunView, after_s: float) -> None:
        super().__init__(bus, view, Console(file=StringIO(), force_terminal=True, width=118))
        self._after_ns = int(after_s * NS_PER_S)

    def tick(self) -> None:
        super().tick()
        late = SYSTEM_CLOCK.monotonic_ns() - self._view.started_ns > self._after_ns
        if late and len(self._active) >= 1:
            recorder = Console(record=True, file=StringIO(), width=118)
            recorder.print(self.render())
            recorder.save_svg(str(TARGET), title="python run_stream.py -c configs/…")


if __name__ == "__main__":
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    config = validate(
        {
            "cameras": {"hall": {"source": "demo:1"}, "desk": {"source": "demo:2"}},
            "publish": {"scores": True},
        }
    )
    sys.exit(run(config, [partial(PicturedTable, after_s=seconds / 2)], seconds))
