"""A pack learns what people said of its events, out of a real memory."""

import json
from pathlib import Path

import pytest

from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S, from_isoformat, isoformat
from pipeline.model.pack import ModelPack
from pipeline.model.watch import Watch
from pipeline.reviews.records import Review
from pipeline.reviews.store import ReviewStore
from teach.__main__ import cli
from teach.from_reviews import ReviewOrder, learn
from teach.lesson_file import load
from teach.pack import TeachError
from teach.place import Place
from testbed.remembered import remember
from tests.teach.parts import LOOKS, clip, pack

pytestmark = pytest.mark.slow
START_NS = from_isoformat("2026-11-24T08:00:00.000Z")
DAY = ("left", "door", "up", "door", "left", "door", "up", "door")


class Camera:
    """A camera at a door, whose pack takes the door for somebody who moves to the left."""

    def __init__(self, folder: Path) -> None:
        self.pack = pack(folder).folder
        self.config = folder / "config.yaml"
        self.config.write_text(
            f"memory: {{folder: {folder / 'memory'}}}\nevents: {{log: {folder / 'log.sqlite'}}}\n"
        )
        self.reviews = ReviewStore(folder / "log.reviews")
        clips = []
        for place, what in enumerate(DAY):
            clips += [clip("background", 2000 + place, 40), clip(what, 1000 + place)]
        watch = Watch(ModelPack.load(self.pack))
        times = remember(folder / "memory", "door", watch, clips, LOOKS, START_NS)
        self.shown = list(zip(DAY, times[1::2], strict=True))

    def said(self) -> list[Said]:
        found = Place(self.config).said("door", ModelPack.load(self.pack), (0, 1 << 62))
        return found

    def review(self) -> list[Review]:
        """Say of each event whether it was right, and what was missed."""
        found = []
        for number, one in enumerate(self.said()):
            what = next(
                (w for w, (first, last) in self.shown if first <= one.start_ns <= last + NS_PER_S),
                None,
            )
            verdict = "right" if what == one.label else "wrong"
            found.append(said_of(verdict, one.label if verdict == "right" else None, one, number))
        self.reviews.add(found)
        return found

    def learn(self, **changes: object) -> object:
        return learn(ReviewOrder(self.config, self.pack, **changes))  # type: ignore[arg-type]


def said_of(verdict: str, label: str | None, one: Said, number: int) -> Review:
    return Review(
        camera="door", verdict=verdict, label=label, said=one.label,  # type: ignore[arg-type]
        start_time=isoformat(one.start_ns), end_time=isoformat(one.end_ns),
        event=f"door-{number}", by="ann", time="2026-11-25T08:00:00.000Z",
    )  # fmt: skip


def missed(label: str, first_ns: int, last_ns: int, camera: str = "door") -> Review:
    return Review(
        camera=camera, verdict="missed", label=label, start_time=isoformat(first_ns),
        end_time=isoformat(last_ns), by="ann", time="2026-11-25T08:00:00.000Z",
    )  # fmt: skip


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    return Camera(tmp_path)


def test_wrong_events_go_and_right_ones_stay(camera: Camera) -> None:
    reviews = camera.review()
    wrong = sum(one.verdict == "wrong" for one in reviews)
    right = sum(one.verdict == "right" for one in reviews)
    assert wrong >= 3
    assert right >= 3
    found = learn(ReviewOrder(camera.config, camera.pack))
    effect = found.effect
    assert (effect.wrong.before, effect.wrong.after, effect.wrong.of) == (wrong, 0, wrong)
    assert (effect.right.before, effect.right.after, effect.right.of) == (right, right, right)
    taught = wrong + right
    assert (found.examples, found.new_examples, found.forgotten) == (taught, taught, 0)
    assert found.left_out["right"].of == right
    assert not effect.worse
    # What is new is the action that the first pack had missed.
    assert right + len(effect.new) <= 4
    # Nothing has changed in the pack's place.
    assert ModelPack.load(camera.pack).contract.version == "1.0.0"
    assert ModelPack.load(Path(found.folder)).contract.version == "1.1.0"


def test_hard_windows_end_while_the_wrong_event_went_on(camera: Camera) -> None:
    wrong = sum(one.verdict == "wrong" for one in camera.review())
    found = learn(ReviewOrder(camera.config, camera.pack))
    kept = load(ModelPack.load(Path(found.folder)))
    hard = [one for one in kept.examples if one.name.startswith("review") and one.label == 0]
    assert len(hard) == wrong >= 3
    for one in hard:
        review = next(r for r in camera.reviews.all() if one.name.endswith(r.key))
        first_whole = one.clip.times_ns[kept.window - 1]
        assert abs(int(first_whole) - from_isoformat(review.start_time)) <= NS_PER_S // 10
        assert abs(int(one.clip.times_ns[-1]) - from_isoformat(review.end_time)) <= NS_PER_S // 10


def test_the_same_reviews_are_learned_once_and_outlive_the_memory(camera: Camera) -> None:
    reviews = camera.review()
    learn(ReviewOrder(camera.config, camera.pack, switch=True))
    again = learn(ReviewOrder(camera.config, camera.pack, switch=True))
    assert (again.examples, again.new_examples) == (len(reviews), 0)
    # Withdrawn reviews aren't taught any more.
    first = camera.reviews.all()[0]
    camera.reviews.add(
        [Review(camera="door", verdict="withdrawn", said=first.said, start_time=first.start_time,
                end_time=first.end_time, event=first.event, by="ann", time=first.time)]
    )  # fmt: skip
    assert learn(ReviewOrder(camera.config, camera.pack)).examples == len(reviews) - 1


def test_what_was_missed_is_an_example(camera: Camera) -> None:
    _, (first_ns, last_ns) = camera.shown[2]
    camera.reviews.add([missed("up", first_ns, last_ns)])
    found = learn(ReviewOrder(camera.config, camera.pack))
    kept = load(ModelPack.load(Path(found.folder)))
    one = next(one for one in kept.examples if one.name.startswith("review"))
    assert kept.labels.names[one.label] == "up"
    assert abs(one.clip.steps - 12) <= 1
    assert found.effect.missed.after == 1


def test_unknown_labels_and_what_the_memory_lacks_are_said(camera: Camera) -> None:
    _, (first_ns, last_ns) = camera.shown[2]
    hour_ns = 3600 * NS_PER_S
    camera.reviews.add(
        [
            missed("up", first_ns, last_ns),
            missed("UP", first_ns, last_ns),
            missed("left", first_ns - hour_ns, last_ns - hour_ns),
            missed("left", first_ns, last_ns, camera="garden"),
        ]
    )
    found = learn(ReviewOrder(camera.config, camera.pack))
    assert (found.examples, found.forgotten) == (1, 2)
    said = "\n".join(found.warnings)
    assert "1 reviewed as 'UP', which the pack doesn't know: not taught" in said
    assert "camera garden: the memory has door" in said


def test_without_anything_to_learn_it_says_why(camera: Camera) -> None:
    with pytest.raises(TeachError, match="there is no review yet"):
        learn(ReviewOrder(camera.config, camera.pack))
    camera.reviews.add([missed("fall", START_NS, START_NS + NS_PER_S)])
    with pytest.raises(TeachError, match="no review is of a label of door: left, up"):
        learn(ReviewOrder(camera.config, camera.pack))
    camera.reviews.add([missed("up", NS_PER_S, 2 * NS_PER_S)])
    with pytest.raises(TeachError, match="the memory has none of the 1 reviewed moments"):
        learn(ReviewOrder(camera.config, camera.pack))


class Command:
    """``two-stream teach`` with some words."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str, str]:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli([str(word) for word in words], "two-stream teach")
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_the_command_switches_and_goes_back(camera: Camera, command: Command) -> None:
    camera.review()
    words = ("--from-reviews", "-c", camera.config, "--pack", camera.pack)
    code, out, err = command(*words, "--switch")
    assert (code, err) == (0, "")
    assert all(part in out for part in ("better", "left out", "--back-to 1.0.0"))
    assert ModelPack.load(camera.pack).contract.version == "1.1.0"
    assert all(one.label != "left" or one.start_ns for one in camera.said())
    code, _, err = command("--back-to", "1.0.0", "--pack", camera.pack)
    assert (code, err) == (0, f"{camera.pack}: is door 1.0.0 now\n")
    code, _, err = command("--back-to", "0.5.0", "--pack", camera.pack)
    assert code == 2
    assert err.startswith("error: ")
    assert "1.1.0" in err
    code, out, _ = command(*words, "--json", "--out", camera.pack.parent / "next")
    assert code == 0
    assert json.loads(out)["after"] == "1.2.0"
    code, _, err = command(*words, "--out", camera.pack.parent / "next")
    assert (code, "exists already" in err) == (2, True)
