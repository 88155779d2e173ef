"""Recording examples: from the demo camera and from a file, on a clock that the test moves."""

import os
import pty
import resource
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from pipeline.arrays import Frame
from pipeline.errors import SourceError
from pipeline.evaluate.clip_list import read
from pipeline.sources import Source, SourceOptions, create
from teach.clip_file import ClipFile, label_folder, next_path
from teach.pack import TeachError
from teach.record import BACKGROUND_S, COUNTDOWN, Answer, Plan, Recorded, Recorder
from teach.terminal import Terminal, blocks_size, half_blocks
from testbed.clock import HandClock
from testbed.video_files import grays, write_video
from tests.structure import PROJECT

FPS = 10


class Person:
    """Answers what the test says, and notes what it is shown."""

    def __init__(self, *answers: Answer | None) -> None:
        self._answers = list(answers)
        self.said: list[str] = []
        self.shown: list[str] = []
        self.beeps = 0

    def say(self, line: str) -> None:
        self.said.append(line)

    def show(self, line: str, picture: Frame) -> None:
        self.shown.append(line)

    def beep(self) -> None:
        self.beeps += 1

    def answer(self) -> Answer | None:
        return self._answers.pop(0) if self._answers else Answer.KEEP


def demo(clock: HandClock) -> Source:
    return create(
        "demo", camera="test", clock=clock, options=SourceOptions(fps=FPS, width=160, height=120)
    )


def recorded(plan: Plan, person: Person, source: Source | None = None) -> Recorded:
    clock = HandClock()
    source = source or demo(clock)
    source.open()
    return Recorder(plan, source, clock, person).run()


def film(folder: Path, seconds: int) -> Source:
    path = write_video(folder / "film.mp4", grays(seconds * FPS), fps=FPS)
    return create(
        str(path), camera="test", clock=HandClock(), options=SourceOptions(realtime=False)
    )


def pictures(path: Path) -> list[tuple[float, Frame]]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [
            (float(frame.time or 0), np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
            for frame in container.decode(video=0)
        ]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestTheClips:
    def test_are_whole_and_lie_in_folders_that_teach_reads(self, tmp_path: Path) -> None:
        person = Person()
        kept = recorded(Plan("wave", tmp_path, count=2, seconds=1.0), person)
        assert names(tmp_path) == [
            "background/background_1.mp4",
            "wave/wave_1.mp4",
            "wave/wave_2.mp4",
        ]
        assert [path.stem for path in kept.examples] == ["wave_1", "wave_2"]
        assert {entry.label for entry in read(tmp_path)} == {"wave", "background"}
        assert person.beeps == 4  # at the start and at the end of each
        times = [at for at, _ in pictures(kept.examples[0])]
        assert times == pytest.approx([k / FPS for k in range(FPS)], abs=0.002)
        assert len(pictures(kept.background[0])) == BACKGROUND_S * FPS

    def test_a_countdown_comes_before_each(self, tmp_path: Path) -> None:
        person = Person()
        recorded(Plan("wave", tmp_path, count=1, seconds=1.0), person)
        counted = list(dict.fromkeys(line for line in person.shown if line.startswith("wave in")))
        assert counted == ["wave in 3", "wave in 2", "wave in 1"]

    def test_show_the_part_of_a_file_after_the_countdown(self, tmp_path: Path) -> None:
        kept = recorded(
            Plan("up", tmp_path / "clips", count=1, seconds=1.0), Person(), film(tmp_path, 8)
        )
        first, last = (pictures(kept.examples[0])[k][1].mean() for k in (0, -1))
        # Picture i of `grays` has the level 10 + 220 i / count.
        assert first == pytest.approx(10 + 220 * COUNTDOWN / 8, abs=9)
        assert last == pytest.approx(10 + 220 * (COUNTDOWN + 0.9) / 8, abs=15)

    def test_of_the_background_have_no_background_between_them(self, tmp_path: Path) -> None:
        kept = recorded(Plan("nothing", tmp_path, count=2, seconds=1.0), Person())
        assert names(tmp_path) == ["nothing/nothing_1.mp4", "nothing/nothing_2.mp4"]
        assert kept.background == []

    def test_go_on_after_those_that_are_there(self, tmp_path: Path) -> None:
        folder = tmp_path / "up"
        folder.mkdir()
        for name in ("up_2.avi", "up_10.mp4", "up_x.mp4", "down_40.mp4"):
            (folder / name).touch()
        assert next_path(folder).name == "up_11.mp4"
        assert next_path(tmp_path / "new") == tmp_path / "new" / "new_1.mp4"

    def test_keep_the_first_size_if_the_camera_changes_it(self, tmp_path: Path) -> None:
        clip = ClipFile(tmp_path / "up")
        for place, size in enumerate(((48, 64), (96, 128))):
            clip.add(place * 100_000_000, np.full((*size, 3), 90, np.uint8))
        shapes = {picture.shape for _, picture in pictures(clip.keep())}
        assert shapes == {(48, 64, 3)}


class TestThePerson:
    def test_may_do_it_again(self, tmp_path: Path) -> None:
        person = Person(None, None, Answer.AGAIN, Answer.KEEP)
        recorded(Plan("wave", tmp_path, count=1, seconds=1.0), person)
        assert names(tmp_path) == ["wave/wave_1.mp4"]
        assert person.beeps == 4

    def test_may_stop_and_keeps_what_was_kept(self, tmp_path: Path) -> None:
        kept = recorded(
            Plan("wave", tmp_path, count=5, seconds=1.0), Person(Answer.KEEP, Answer.STOP)
        )
        assert len(kept.examples) == 1
        assert names(tmp_path) == ["background/background_1.mp4", "wave/wave_1.mp4"]

    def test_who_stops_at_once_leaves_no_folder(self, tmp_path: Path) -> None:
        recorded(Plan("wave", tmp_path, seconds=1.0), Person(Answer.STOP))
        assert list(tmp_path.iterdir()) == []

    def test_may_think_longer_than_the_film_is(self, tmp_path: Path) -> None:
        thinking = [None] * 200
        kept = recorded(
            Plan("up", tmp_path / "clips", count=1, seconds=1.0),
            Person(*thinking, Answer.KEEP),
            film(tmp_path, 5),
        )
        assert len(pictures(kept.examples[0])) == FPS


class TestErrors:
    def test_a_source_that_ends_too_early(self, tmp_path: Path) -> None:
        with pytest.raises(
            TeachError, match="the source ended: 1 of 3 examples of up are recorded"
        ):
            recorded(
                Plan("up", tmp_path / "clips", count=3, seconds=2.0), Person(), film(tmp_path, 12)
            )
        # The second example was cut short, so it isn't there, and no part of it.
        assert names(tmp_path / "clips") == ["background/background_1.mp4", "up/up_1.mp4"]

    def test_a_source_that_breaks(self, tmp_path: Path) -> None:
        class Broken:
            """A camera that stops after some frames."""

            def __init__(self, source: Source, frames: int) -> None:
                self._source, self._left = source, frames

            def __getattr__(self, name: str) -> object:
                return getattr(self._source, name)

            def grab(self) -> object:
                self._left -= 1
                if self._left < 0:
                    raise SourceError("camera 'test': it stopped", kind="stalled")
                return self._source.grab()

        source = Broken(demo(HandClock()), 35)
        with pytest.raises(SourceError, match="it stopped"):
            recorded(Plan("up", tmp_path, seconds=2.0), Person(), source)  # type: ignore[arg-type]
        assert names(tmp_path) == []

    @pytest.mark.parametrize("label", ["a/b", "", " x", "..", "x" * 65])
    def test_a_label_that_cannot_be_one(self, tmp_path: Path, label: str) -> None:
        with pytest.raises(TeachError, match="--record: label"):
            label_folder(tmp_path, label)

    def test_a_label_that_looks_like_another(self, tmp_path: Path) -> None:
        (tmp_path / "Wave").mkdir()
        with pytest.raises(TeachError, match=r"has Wave, which looks the same; use that"):
            label_folder(tmp_path, "wave")
        assert label_folder(tmp_path, "Wave") == tmp_path / "Wave"

    def test_a_full_disk_leaves_no_half_clip(self, tmp_path: Path) -> None:
        plan = Plan("wave", tmp_path, count=1, seconds=2.0)
        with at_most(20_000), pytest.raises(TeachError, match="wave: the clip can't be written: "):
            recorded(plan, Person())
        assert names(tmp_path) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(TeachError, match="can't be written: Not a directory"):
            recorded(Plan("wave", tmp_path / "file", count=1, seconds=1.0), Person())


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file gets larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestTheTerminal:
    def test_a_picture_of_half_blocks(self) -> None:
        picture = np.zeros((4, 3, 3), np.uint8)
        picture[0, 0] = (255, 0, 0)  # blue, above
        picture[1, 0] = (0, 0, 255)  # red, below
        text = half_blocks(picture)
        assert text.plain == "▀▀▀\n▀▀▀\n"
        assert text.spans[0].style == "#0000ff on #ff0000"

    @pytest.mark.parametrize(
        ("picture", "columns", "rows", "size"),
        [
            ((480, 640), 64, 40, (48, 64)),
            ((480, 640), 64, 12, (24, 32)),
            ((1920, 1080), 64, 18, (36, 20)),
            ((10, 4000), 64, 18, (2, 64)),
        ],
    )
    def test_a_picture_fits_and_keeps_its_shape(
        self, picture: tuple[int, int], columns: int, rows: int, size: tuple[int, int]
    ) -> None:
        assert blocks_size(picture, columns, rows) == size

    def test_nothing_but_what_is_kept_where_it_is_none(self, tmp_path: Path) -> None:
        out = StringIO()
        terminal = Terminal(Console(file=out), yes=True)
        clock = HandClock()
        source = demo(clock)
        source.open()
        with terminal.open():
            plan = Plan("wave", tmp_path / "[b]", count=1, seconds=1.0)
            Recorder(plan, source, clock, terminal).run()
        assert out.getvalue() == f"kept {tmp_path}/[b]/wave/wave_1.mp4\n"


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "teach", *args]


@pytest.mark.slow
class TestTheCommand:
    def test_records_from_a_file(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "film.mp4", grays(6 * FPS), fps=FPS)
        clips = tmp_path / "clips"
        done = run(
            "--record", "up", "--source", str(path), "--clips", str(clips), "--count", "1",
            "--seconds", "1", "--yes",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert names(clips) == ["up/up_1.mp4"]
        assert "1 examples" not in done.stderr
        assert f"1 example is in {clips}/up" in done.stderr

    @pytest.mark.parametrize(
        ("args", "status", "message"),
        [
            (("--record", "up", "--source", "nowhere.mp4", "--yes"), 3, "it doesn't exist"),
            (("--record", "a/b", "--source", "demo", "--yes"), 2, "has '/'"),
            (("--record", "up", "--source", "demo"), 2, "with --yes it keeps all"),
        ],
    )
    def test_says_what_is_wrong(
        self, tmp_path: Path, args: Sequence[str], status: int, message: str
    ) -> None:
        done = run(*args, "--clips", str(tmp_path / "clips"))
        assert done.returncode == status
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "clips").exists()

    def test_asks_in_a_terminal(self, tmp_path: Path) -> None:
        main, side = pty.openpty()
        process = subprocess.Popen(
            command("--record", "wave", "--source", "demo", "--clips", str(tmp_path), "--count",
                    "5", "--seconds", "0.5"),
            stdin=side, stdout=side, stderr=side, cwd=PROJECT,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"},
        )  # fmt: skip
        os.close(side)
        try:
            seen = until(main, "again (a)")
            assert "▀" in seen
            assert "\a" in seen
            os.write(main, b"a")  # the first is done again
            until(main, "wave in 3")
            until(main, "again (a)")
            os.write(main, b"\n")
            until(main, "wave in 3")
            until(main, "again (a)")
            os.write(main, b"q")
            until(main, "1 example is in")
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            os.close(main)
        assert names(tmp_path) == ["background/background_1.mp4", "wave/wave_1.mp4"]


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args), cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def until(terminal: int, text: str, most_s: float = 60) -> str:
    """What the terminal shows until ``text`` comes."""
    seen = ""
    deadline = time.monotonic() + most_s
    while text not in seen:
        left = deadline - time.monotonic()
        assert left > 0, f"{text!r} didn't come; the end was {seen[-300:]!r}"
        if select.select([terminal], [], [], left)[0]:
            seen += os.read(terminal, 65536).decode("utf-8", "replace")
    return seen
