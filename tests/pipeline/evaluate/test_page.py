"""The report page: what it shows, that it needs nothing else, and that names can't harm it."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from pipeline.clock import NS_PER_S
from pipeline.evaluate.page import DATA, PAGE, charts, write
from pipeline.evaluate.page.examples import clip_mistakes, quiet_mistakes, stream_mistakes
from pipeline.evaluate.page.flow_colour import flow_colours, key, wheel
from pipeline.evaluate.page.strips import CELLS, Span, cut
from pipeline.evaluate.report import (
    Evaluation,
    Protocol,
    Request,
    evaluate,
    footage,
)
from pipeline.model.pack import ModelPack
from pipeline.steps.follow import TimedFrame
from testbed import tiny_pack
from tests.pipeline.evaluate.test_command import SPEEDS, moving

EVIL = "<img src=x onerror=alert(1)>&'\".mp4"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Clips of which one is mislabelled, an unreadable one, and footage that isn't quiet."""
    folder = tmp_path_factory.mktemp("page")
    pack = ModelPack.load(tiny_pack.make(folder / "pack"))
    for label, speed in SPEEDS.items():
        moving(folder / "clips" / label / "0.mp4", speed)
    moving(folder / "clips" / "right" / EVIL, SPEEDS["left"])
    moving(folder / "negatives" / "loud.mp4", SPEEDS["left"])
    (folder / "clips" / "up").mkdir()
    (folder / "clips" / "up" / "<bad>.mp4").write_bytes(b"not a video")
    request = Request(folder / "clips", Protocol.BOTH, [folder / "negatives"])
    return evaluate(pack, request, footage(request, pack), lambda _files, _media_s: None)


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("written")
    assert write(evaluation, folder) == folder / PAGE
    assert (folder / DATA).read_bytes().startswith(b'{"model":')
    return (folder / PAGE).read_text("utf-8")


class Page(HTMLParser):
    """Tags that are open at the end, addresses that are loaded, all text."""

    VOID = frozenset({"meta", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.slow
def test_the_page_says_what_was_measured(page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert "75.0 %" in text  # three of four clips are right
    assert "1 unreadable file" in text
    assert "made by hand" in text  # the pack's provenance
    for title in ("Confusion", "Each label", "Actions and events"):
        assert title in text
    for title in ("Clips taken for another label 1", "False alarms without actions 1"):
        assert title in text


@pytest.mark.slow
def test_the_page_stands_alone(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == []
    assert "script" not in parsed.tags
    assert len(parsed.loaded) > 2
    # References within a drawing, and pictures that are part of the page.
    assert {address.partition(":")[0] for address in parsed.loaded if address[0] != "#"} == {"data"}
    assert re.findall(r"url\((?!#)", page) == []


@pytest.mark.slow
def test_names_are_text_and_nothing_more(page: str) -> None:
    assert "<img src=x" not in page
    assert "<bad>" not in page
    text = Page(page).text
    assert EVIL in text
    assert "<bad>.mp4" in text


@pytest.mark.slow
def test_charts_take_the_pages_colours(page: str) -> None:
    """No stand-in colour is left, and each variable has a value for light and for dark."""
    for name, colour in charts.INKS.items():
        assert colour not in page
        assert page.count(f"--{name}: #") == 2
    assert len(set(charts.INKS.values())) == len(charts.INKS)


@pytest.mark.slow
def test_examples_show_what_the_networks_saw(evaluation: Evaluation) -> None:
    (mistake,) = clip_mistakes(evaluation)
    assert (mistake.true, mistake.said) == ("right", "left")
    assert mistake.name.endswith(EVIL)
    assert [line.label for line in mistake.lines][:3] == ["right", "left", "background"]
    false, missed = stream_mistakes(evaluation)
    assert [(one.true, one.said) for one in false] == [("right", "left")]
    assert [(one.true, one.said) for one in missed] == [("right", "nothing")]
    (quiet,) = quiet_mistakes(evaluation)
    assert (quiet.true, quiet.said) == ("no action", "left")
    picture = decoded(quiet.strip.uri)
    assert picture.shape == (quiet.strip.height, quiet.strip.width, 3)
    # Frames above, flow below: what moves left is cyan, blue and green without red.
    flow = picture[picture.shape[0] // 2 :, picture.shape[1] // 2 :].reshape(-1, 3).mean(axis=0)
    assert flow[2] < min(flow[0], flow[1]) - 40


def decoded(uri: str) -> np.ndarray:
    encoded = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture)


def test_a_strip_shows_the_middles_of_equal_parts() -> None:
    """Grey frames that grow lighter with each step of ten hertz."""
    frames = [
        TimedFrame(i * NS_PER_S // 10, lambda i=i: np.full((120, 160, 3), 3 * i, np.uint8))  # type: ignore[misc]
        for i in range(80)
    ]
    contract = tiny_pack.contract()
    strip, nothing = cut(
        frames, [Span(NS_PER_S, 5 * NS_PER_S), Span(90 * NS_PER_S, 91 * NS_PER_S)], contract
    )
    assert nothing is None
    assert strip is not None
    assert (strip.width, strip.height) == (CELLS * 160, 240)
    picture = decoded(strip.uri)
    greys = [int(picture[60, 80 + 160 * cell].mean()) for cell in range(CELLS)]
    assert greys == pytest.approx([3 * (10 + 40 * (2 * i + 1) / 16) for i in range(CELLS)], abs=4)
    assert picture[160:230, 10:150].min() > 245  # nothing moves: white


class TestFlowColours:
    """Against the wheel of Baker et al., whose integer colours are known."""

    def test_the_wheel(self) -> None:
        colours = (255 * wheel()).astype(int)
        assert colours.shape == (55, 3)
        # The first colour of each arc, and one in the middle of the first.
        for place, colour in {
            0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255),
            36: (0, 0, 255), 49: (255, 0, 255), 5: (255, 85, 0),
        }.items():  # fmt: skip
            assert tuple(colours[place]) == pytest.approx(colour, abs=1)

    def test_directions_and_speeds(self) -> None:
        flow = np.array([[[1, 0], [0, 0], [-1, 0], [0.5, 0], [2, 0]]], np.float32)
        right, still, left, slow, fast = flow_colours(flow, 1.0)[0].astype(int)[:, ::-1]
        assert tuple(right) == (255, 0, 0)
        assert tuple(still) == (255, 255, 255)
        assert tuple(left) == pytest.approx((0, 209, 255), abs=3)
        assert tuple(slow) == (255, 127, 127)
        assert tuple(fast) == (191, 0, 0)

    def test_the_key_is_a_disc_on_white(self) -> None:
        disc = key(41)
        assert disc.shape == (41, 41, 3)
        assert (disc[0, 0] == 255).all()
        assert (disc[20, 20] > 245).all()
        assert tuple(disc[20, 39].astype(int)) == pytest.approx((0, 0, 255), abs=20)

    def test_a_radius_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="radius must be positive"):
            flow_colours(np.zeros((1, 1, 2), np.float32), 0.0)


@pytest.mark.slow
def test_many_labels_and_hours_stay_drawable(evaluation: Evaluation) -> None:
    rates = {f"label {i}": (i, i / 400, None, i / 400) for i in range(400)}
    bars = charts.label_bars(rates)
    assert bars.count("label ") == charts.MOST_LABELS
    assert "label 0 " in bars  # the worst are kept
    clip, stream = evaluation.report.clip, evaluation.report.stream
    assert clip is not None
    assert stream is not None
    many = msgspec.structs.replace(clip.scores["fused"], confusion=np.eye(400, dtype=int).tolist())
    assert "label" not in charts.confusion(many.confusion, list(rates))
    long = charts.timeline(msgspec.structs.replace(stream, stream_s=7 * 3600.0))
    assert long.count(" min<") == charts.MOST_ROWS


@pytest.mark.slow
@pytest.mark.parametrize("what", ["footage alone", "background alone"])
def test_there_may_be_little_to_draw(evaluation: Evaluation, tmp_path: Path, what: str) -> None:
    pack = evaluation.pack
    loud = tmp_path / "clips" / "background" / "loud.mp4"
    moving(loud, SPEEDS["left"])
    if what == "footage alone":
        request = Request(negatives=[loud])
    else:
        request = Request(tmp_path / "clips", Protocol.BOTH)
    alone = evaluate(pack, request, footage(request, pack), lambda _files, _media_s: None)
    text = Page(write(alone, tmp_path).read_text("utf-8")).text
    assert ("False alarms without actions 1" in text) == (what == "footage alone")
    assert ("False alarms in the stream 1" in text) == (what == "background alone")
    assert ("Confusion" in text) == (what == "background alone")
    loud.unlink()  # figures don't need the clips again; only the strips do
    text = Page(write(alone, tmp_path).read_text("utf-8")).text
    assert "none of them can be read again" in text
