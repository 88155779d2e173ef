"""The page of a verdict: what it shows, that it loads nothing else, that names can't harm it."""

import re
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.evaluate.clip_list import Entry
from pipeline.evaluate.page import DATA, PAGE, charts
from pipeline.evaluate.page.strips import CELLS, FILM_KEPT, film
from pipeline.model.pack import ModelPack
from pipeline.steps.follow import TimedFrame
from teach.clips import Clips
from teach.pack import TeachError
from teach.page import LEAST_OF_A_LABEL, MOST_OF_A_LABEL, Album, render, writer
from teach.run import Result
from teach.verdict import LabelVerdict, OddExample, Told, Verdict
from testbed import tiny_pack
from testbed.video_files import grays, write_video
from tests.command_line import run_without
from tests.pipeline.evaluate.test_page import Page

EVIL = "<img src=x onerror=alert(1)>&'\".mp4"
NAMES = ["background", "left", "right"]


def told(path: Path, label: str, said: str, score: float) -> Told:
    return Told(str(path), label, said, score, score if said == label else round(1 - score, 3))


def verdict(clips: list[Told]) -> Verdict:
    odd = [OddExample(one.path, one.label, one.said, one.score) for one in clips
           if one.said != one.label]  # fmt: skip
    table = np.zeros((3, 3), int)
    for one in clips:
        table[NAMES.index(one.label), NAMES.index(one.said)] += 1
    return Verdict(
        works=True, top1=0.9, top1_error=0.03, chance=0.3333, looks="hands+flow",
        tried={"flow": 0.7, "hands+flow": 0.9}, event_f1=0.8, events_found=7, actions_shown=9,
        false_events=2, background_minutes=5.0, false_events_in_background=0,
        most_false_events_a_day=864.0, calibration_error=0.04, temperature=1.2,
        labels=[
            LabelVerdict("background", 1, 1, 1.0, 0.9, "enough", ""),
            LabelVerdict("left", 9, 3, 0.9, 0.9, "confused", "left and right look alike to it"),
            LabelVerdict("right", 2, 2, 0.5, None, "too few", "2 clips of 2 takes: record more"),
        ],
        confusion=table.tolist(), names=NAMES, pairs=[("left", "right", 0.3)], odd=odd,
        twice=["a/twice.mp4"], with_half=0.75, with_twice=0.96, warnings=["take care"], told=clips,
    )  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Clips]:
    """Clips of which one looks like another label, and one can't be read again."""
    folder = tmp_path_factory.mktemp("page")
    clips = []
    for label, count in (("background", 1), ("left", 9), ("right", 1)):
        for number in range(count):
            (folder / label).mkdir(exist_ok=True)
            path = write_video(folder / label / f"{number}.mp4", grays(12), fps=10)
            clips.append(told(path, label, label, 0.9 - number / 100))
    evil = write_video(folder / "evil.mp4", grays(12), fps=10).rename(folder / "right" / EVIL)
    clips.append(told(evil, "right", "left", 0.8))
    (folder / "left" / "gone.mp4").write_bytes(b"not a video")
    clips.append(told(folder / "left" / "gone.mp4", "left", "left", 0.1))
    entries = tuple(Entry(Path(one.path), one.label) for one in clips)
    pack = ModelPack.load(tiny_pack.make(folder / "pack"))
    unreadable = {"x": "a/<bad>.mp4: it is not a video"}
    return Result(verdict(clips), pack, unreadable), Clips(entries, tuple(NAMES), ("background",))


@pytest.fixture(scope="module")
def page(taught: tuple[Result, Clips], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("written") / "new" / "folder"
    path = writer(folder)(*taught)
    assert path == folder / PAGE
    assert msgspec.json.decode((folder / DATA).read_bytes(), type=Verdict) == taught[0].verdict
    return path.read_text("utf-8")


@pytest.mark.slow
class TestThePage:
    def test_says_what_to_expect_and_to_do(self, page: str) -> None:
        for text in (
            "90 %", "7 of 9", "≤ 864", "2 clips of 2 takes: record more", "take care",
            "Would more clips help?", "twice as many", "30 % of their clips are mistaken",
            "a usual left", "a usual right", "a/twice.mp4", "after 3 days of background",
        ):  # fmt: skip
            assert text in page, text

    def test_loads_nothing_else_and_closes_its_tags(self, page: str) -> None:
        parsed = Page(page)
        assert parsed.open == []
        assert "script" not in parsed.tags
        loaded = [address for address in parsed.loaded if address[0] != "#"]
        assert len(loaded) > 10
        assert all(address.startswith("data:") for address in loaded)
        assert re.findall(r"url\((?!#)", page) == []

    def test_names_cannot_harm_it(self, page: str) -> None:
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "a/&lt;bad&gt;.mp4" in page

    def test_without_a_pack_or_background(self, taught: tuple[Result, Clips]) -> None:
        result, clips = taught
        bare = msgspec.structs.replace(
            result.verdict, works=False, most_false_events_a_day=None, background_minutes=0.0,
            with_half=None, with_twice=None, odd=[], pairs=[], twice=[],
        )  # fmt: skip
        text = render(Result(bare, None, {}), clips)
        assert "This doesn’t work" in text
        assert "add --background" in text
        assert "Half of the clips are too few" in text
        assert "Odd examples" not in text
        assert "Left out" not in text


@pytest.mark.slow
class TestTheAlbum:
    def test_shows_some_of_each_label_from_the_surest_down(
        self, taught: tuple[Result, Clips]
    ) -> None:
        result, clips = taught
        background, left, right = Album(result.verdict, clips).galleries()
        assert [len(one.shots) for one in (background, right)] == [1, 2]
        scores = [shot.told.true_score for shot in left.shots]
        assert scores == sorted(scores, reverse=True)
        # The least sure of the six can't be read.
        assert len(scores) == MOST_OF_A_LABEL - 1
        assert scores[0] == 0.9

    def test_many_labels_leave_room_for_few_clips(self, taught: tuple[Result, Clips]) -> None:
        result, clips = taught
        many = msgspec.structs.replace(result.verdict, labels=result.verdict.labels * 50)
        assert len(Album(many, clips).galleries()[1].shots) <= LEAST_OF_A_LABEL

    def test_odd_clips_stand_beside_usual_ones(self, taught: tuple[Result, Clips]) -> None:
        (odd,) = Album(taught[0].verdict, taught[1]).odd()
        assert Path(odd.shot.name).name == EVIL
        assert [shot.kind for shot in odd.beside] == ["a usual right", "a usual left"]

    def test_mistaken_clips_come_first(self, taught: tuple[Result, Clips]) -> None:
        (pair,) = Album(taught[0].verdict, taught[1]).pairs()
        assert [shot.told.said for shot in pair.sides[1]] == ["left", "right"]

    def test_made_background_is_no_clip(self, taught: tuple[Result, Clips]) -> None:
        result, clips = taught
        path = clips.entries[-2].path
        more = [*result.verdict.told, told(path, "background", "background", 0.99)]
        album = Album(msgspec.structs.replace(result.verdict, told=more), clips)
        assert str(path) not in {shot.name for shot in album.galleries()[0].shots}


class TestFilms:
    @staticmethod
    def timed(count: int) -> list[TimedFrame]:
        frames = enumerate(grays(count))
        return [TimedFrame(k * 100, partial(np.asarray, frame)) for k, frame in frames]

    @pytest.mark.parametrize("count", [1, 3, 100, FILM_KEPT, 5 * FILM_KEPT])
    def test_reach_from_the_first_picture_to_the_last(self, count: int) -> None:
        found = film(self.timed(count), 10**9)
        assert found is not None
        assert len(found.times_ns) == CELLS
        assert found.times_ns[0] == 0
        assert found.times_ns[-1] >= 0.95 * (count - 1) * 100
        assert list(found.times_ns) == sorted(found.times_ns)

    def test_end_where_they_get_too_long(self) -> None:
        found = film(self.timed(50), 2000)
        assert found is not None
        assert found.times_ns[-1] == 2000

    def test_of_nothing(self) -> None:
        assert film([], 1000) is None


def test_charts_of_a_verdict() -> None:
    drawn = charts.curve([("half", 0.5, True), ("all", 0.7, True), ("twice", 0.8, False)], 0.2)
    assert "twice" in drawn
    assert "guessing" in drawn
    assert "hands+flow" in charts.bars({"flow": 0.5, "hands+flow": 0.9}, "flow", 0.1, 0.2)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TeachError, match=r"--report .*file/page: Not a directory"):
        writer(tmp_path / "file" / "page")


@pytest.mark.slow
def test_without_the_extra_it_says_so_at_once(tmp_path: Path) -> None:
    for label in ("left", "right"):
        for number in range(2):
            path = tmp_path / "clips" / label / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{label} {number}".encode())
    done = run_without(
        "matplotlib", "teach",
        ["--clips", str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--report",
         str(tmp_path / "page")],
    )  # fmt: skip
    assert done.returncode == 2
    assert "matplotlib is missing: pip install 'two-stream[report]'" in done.stderr
    assert "Traceback" not in done.stderr
