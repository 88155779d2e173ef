"""The live table on a terminal: what each camera shows now, and the newest events."""

from collections import deque
from typing import Any, TextIO, cast

import msgspec
from msgspec import UNSET, UnsetType
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.public.event_line import event_line
from pipeline.public.records import ACTION, SCORE, event_from_json
from pipeline.run.outputs.base import RunView
from pipeline.run.standard_streams import STDOUT, Outlet, OutletText
from pipeline.transport.bus import Bus
from pipeline.transport.messages import BadMessage

_STATE_STYLES = {"online": "green", "connecting": "cyan", "ended": "dim"}
_BAR = 12
_SHOWN_EVENTS = 10
GONE_S = 2.0
"""A subject that has no scores for so long has no row."""


class LiveTable:
    """Redraws four times a second; costs nothing to the stages."""

    def __init__(
        self,
        bus: Bus,
        view: RunView,
        console: Console | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        # What redraws it is a thread; a terminal that hangs or is gone must not hold up the end.
        self._terminal = OutletText(Outlet(STDOUT), STDOUT)
        self._scores: dict[str, dict[str, dict[str, Any]]] = {}
        """By camera, and by pack and subject."""
        self._seen_ns: dict[tuple[str, str], int] = {}
        """When a subject of a camera was last scored."""
        self._active: dict[tuple[str, str], str] = {}
        self._recent: deque[Text] = deque(maxlen=_SHOWN_EVENTS)
        self._count = 0
        self._view = view
        self._socket = bus.public_subscriber([ACTION.name, SCORE.name])
        bus.watch(self._socket)
        self._live = Live(
            console=console or Console(file=cast(TextIO, self._terminal)),
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self.render,
            refresh_per_second=4,
            transient=False,
        )
        self._live.start()

    def tick(self) -> None:
        if self._terminal.failure is not None:
            self._live.stop()
            raise OSError(None, self._terminal.failure)
        for topic, body in self._socket.drain():
            if topic.startswith(f"{SCORE.name}/"):
                scores = msgspec.json.decode(body)
                self._note(scores)
                continue
            try:
                event = event_from_json(body)
            except BadMessage:
                continue
            self._count += 1
            if event.type == "start":
                self._active[event.camera, _row(event.model.name, event.subject)] = event.label
            elif event.type == "end":
                self._active.pop((event.camera, _row(event.model.name, event.subject)), None)
            if event.type != "update":
                self._recent.append(event_line(event))

    def close(self) -> None:
        self._live.stop()

    def _note(self, scores: dict[str, Any]) -> None:
        camera, subject = scores["camera"], scores.get("subject", UNSET)
        row = _row(scores["pack"], subject)
        self._scores.setdefault(camera, {})[row] = scores
        if subject is not UNSET:
            self._seen_ns[camera, row] = self._clock.monotonic_ns()

    def _forget_the_gone(self) -> None:
        """Take out the rows of subjects who are no longer scored."""
        now_ns = self._clock.monotonic_ns()
        for (camera, row), seen_ns in list(self._seen_ns.items()):
            if now_ns - seen_ns > GONE_S * NS_PER_S:
                del self._seen_ns[camera, row], self._scores[camera][row]

    def render(self) -> Group:
        """The whole table."""
        self._forget_the_gone()
        return Group(self._cameras(), self._stages(), self._events())

    def _cameras(self) -> Table:
        table = Table(title="two-stream", title_justify="left", expand=True)
        for name in ("camera", "state", "frames", "action", "score", "spatial", "temporal", "α"):
            # On a narrow terminal the bars lose their width before the camera's state does.
            table.add_column(name, no_wrap=True, min_width=10 if name == "state" else None)
        table.add_column("latency", justify="right", no_wrap=True)
        for camera in self._view.config.cameras:
            for row in self._camera_rows(camera):
                table.add_row(*row)
        return table

    def _camera_rows(self, camera: str) -> list[list[Text | str]]:
        """One row; where several packs watch the camera, or subjects, one more for each."""
        packs = self._scores.get(camera, {})
        head = self._camera_cells(camera)
        if not packs:
            return [[*head, "", "", "", "", "", ""]]
        rows = {pack: self._pack_cells(camera, pack, packs[pack]) for pack in sorted(packs)}
        if len(rows) == 1:
            return [[*head, *row] for row in rows.values()]
        named = [[Text(f"  {pack}", "dim"), "", "", *row] for pack, row in rows.items()]
        return [[*head, "", "", "", "", "", ""], *named]

    def _camera_cells(self, camera: str) -> list[Text | str]:
        status = self._view.cameras.get(camera)
        state = status.state if status else "starting"
        size = f"{status.size[1]}×{status.size[0]}" if status and status.size else ""
        counters = self._view.metrics.of(f"capture:{camera}")
        frames = f"{int(counters.get('frames', 0))} {size}"
        return [camera, Text(state, _STATE_STYLES.get(state, "red")), frames]

    def _pack_cells(self, camera: str, pack: str, scores: dict[str, Any]) -> list[Text | str]:
        active = self._active.get((camera, pack))
        label = active or max(scores["scores"], key=scores["scores"].get)
        return [
            Text(active, "bold green") if active else Text(label, "dim"),
            _bar(scores["scores"][label]),
            *(self._stream(scores, name, label) for name in ("spatial", "temporal")),
            "–" if scores["alpha"] is None else f"{scores['alpha']:.2f}",
            f"{scores['latency_ms'].get('total', 0.0):.0f} ms",
        ]

    @staticmethod
    def _stream(scores: dict[str, Any], name: str, label: str) -> str:
        stream = scores["streams"].get(name)
        return "masked" if stream is None else f"{stream[label]:.2f}"

    def _stages(self) -> Text:
        text = Text("stages  ", style="dim")
        for name, child in self._view.stages.items():
            style = "green" if child.ready else "yellow"
            restarts = f" ↻{child.total_restarts}" if child.total_restarts else ""
            text.append(f"● {name}{restarts}  ", style=style)
        return text

    def _events(self) -> Panel:
        elapsed = (SYSTEM_CLOCK.monotonic_ns() - self._view.started_ns) / NS_PER_S
        lines = list(self._recent) or [Text("no event yet", style="dim")]
        title = f"events: {self._count} in {elapsed:.0f} s on {self._view.config.publish.events}"
        return Panel(Group(*lines), title=title, title_align="left")


def _bar(score: float) -> Text:
    filled = round(max(0.0, min(score, 1.0)) * _BAR)
    text = Text("█" * filled, style="green" if score >= 0.5 else "yellow")
    text.append("░" * (_BAR - filled), style="dim")
    text.append(f" {score:.2f}")
    return text


def _row(pack: str, subject: str | UnsetType) -> str:
    return pack if isinstance(subject, UnsetType) else f"{pack} {subject}"
