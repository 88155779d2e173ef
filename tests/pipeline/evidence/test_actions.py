"""What is made of an action, and when."""

from typing import Any

import msgspec
import pytest

from pipeline.clock import NS_PER_S, isoformat
from pipeline.config.evidence import EvidenceConfig
from pipeline.evidence.actions import PATIENCE_NS, Action, Task
from pipeline.public.records import Event, Evidence
from testbed.samples import event

WALL_NS = 1_700_000_000 * NS_PER_S
"""Time of day minus monotonic time."""
START_S = 100.0


def at(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def word(seconds: float) -> str:
    return isoformat(WALL_NS + at(seconds))


def record(kind: Any, seq: int, end_s: float | None = None, best_s: float = START_S) -> Event:
    return msgspec.structs.replace(
        event(seq), type=kind, seq=seq, id="door-01", start_time=word(START_S),
        end_time=None if end_s is None else word(end_s), top_time=word(best_s),
    )  # fmt: skip


def begun(**settings: Any) -> Action:
    given = EvidenceConfig.model_validate({"folder": "/e", **settings})
    return Action.begin(record("start", 1), given, WALL_NS, media=False)


def test_pictures_come_soon_and_the_clip_at_the_end() -> None:
    action = begun(clips={"pre_s": 5, "post_s": 2})
    assert list(action.due(at(100.1), at(100.1))) == []
    (pictures,) = action.due(at(100.3), at(100.3))
    assert (pictures.work, pictures.best_ns) == ("pictures", at(100))
    assert list(action.due(at(104), at(104))) == []
    action.event = record("end", 3, end_s=104)
    assert list(action.due(at(105.9), at(105.9))) == []
    (clip,) = action.due(at(106), at(106))
    assert (clip.work, clip.first_ns, clip.last_ns, clip.part) == ("clip", at(95), at(106), 1)
    assert clip.event.seq == 3
    assert action.over


def test_a_better_moment_has_its_picture_at_the_end() -> None:
    action = begun(kinds=["snapshot"])
    assert len(list(action.due(at(101), at(101)))) == 1
    action.event = record("update", 2, best_s=102)
    assert list(action.due(at(103), at(103))) == []
    action.event = record("end", 3, end_s=104, best_s=102)
    (better,) = action.due(at(104), at(104))
    assert (better.best_ns, better.event.seq) == (at(102), 3)
    assert action.over


def test_a_long_action_has_a_clip_in_parts_that_follow_one_another() -> None:
    action = begun(kinds=["clip"], clips={"pre_s": 5, "post_s": 5, "max_s": 30})
    tasks: list[Task] = []
    for now in range(100, 190):
        tasks += action.due(at(now), at(now))
    assert [(t.first_ns, t.last_ns, t.part) for t in tasks] == [
        (at(95), at(125), 1), (at(125), at(155), 2), (at(155), at(185), 3),
    ]  # fmt: skip
    action.event = record("end", 9, end_s=192)
    (last,) = action.due(at(200), at(200))
    assert (last.first_ns, last.last_ns, last.part) == (at(185), at(197), 4)
    assert action.over


def test_a_camera_that_is_away_is_not_waited_for_for_ever() -> None:
    action = begun()
    action.event = record("end", 2, end_s=101)
    late = at(106) + PATIENCE_NS + 1
    assert [task.work for task in action.due(at(90), late)] == ["pictures", "clip"]
    assert action.over


def test_what_was_kept_before_an_action_was_heard_of_is_waited_for() -> None:
    """As after a restart: the best moment is long past, and the capture has not answered yet."""
    given = EvidenceConfig.model_validate({"folder": "/e"})
    action = Action.begin(record("end", 2, end_s=101), given, WALL_NS, media=False, now_ns=at(130))
    assert list(action.due(at(90), at(132))) == []
    assert [task.work for task in action.due(at(131), at(132))] == ["pictures", "clip"]


@pytest.mark.parametrize("kinds", [["clip"], ["snapshot"], ["motion"], ["snapshot", "clip"]])
def test_only_what_is_asked_for_is_made(kinds: list[str]) -> None:
    action = begun(kinds=kinds)
    action.event = record("end", 2, end_s=101)
    works = {task.work for task in action.due(at(200), at(200))}
    assert works == {"clip" if kind == "clip" else "pictures" for kind in kinds}
    assert action.over


def evidence(kind: Any, seq: int, first_s: float | None, last_s: float | None) -> Evidence:
    ready = first_s is not None
    return Evidence(
        number=1, log="9f", id="door-01", seq=seq, camera="door", label="left", kind=kind,
        state="ready" if ready else "lost", reason=None if ready else "too late", part=1,
        path="/e/1" if ready else None, media_type=None, sha256=None, bytes=None, codec=None,
        first_time=None if first_s is None else word(first_s),
        last_time=None if last_s is None else word(last_s), size=SIZE,
    )  # fmt: skip


def test_after_a_restart_the_next_part_follows() -> None:
    action = begun(kinds=["clip"], clips={"max_s": 30})
    action.resume([evidence("clip", 1, 95, 125)])
    (second,) = action.due(at(155), at(155))
    assert (second.part, second.first_ns, second.last_ns) == (2, at(125), at(155))


@pytest.mark.parametrize(
    ("made", "works"),
    [
        ([("snapshot", 1, 100.03, 100.03), ("clip", 3, 95, 108.9)], []),
        ([("snapshot", 3, None, None), ("clip", 3, None, None)], []),
        ([("snapshot", 1, 98, 98), ("clip", 3, 95, 109)], ["pictures"]),
        ([("snapshot", 1, 100, 100)], ["clip"]),
        ([("snapshot", 1, 100, 100), ("clip", 2, 95, 104)], ["clip"]),
        ([], ["pictures", "clip"]),
    ],
)
def test_after_a_restart_only_what_is_missing_is_made(
    made: list[tuple[Any, int, float | None, float | None]], works: list[str]
) -> None:
    given = EvidenceConfig.model_validate({"folder": "/e"})
    action = Action.begin(record("end", 3, end_s=104), given, WALL_NS, media=False)
    action.resume([evidence(*one) for one in made])
    assert [task.work for task in action.due(at(200), at(200))] == works
    assert action.over


SIZE = (48, 64)


def test_in_a_lossless_run_times_are_those_of_the_file() -> None:
    start = msgspec.structs.replace(
        record("start", 1), media_time=(12.5, None), top_media_time=13.0
    )
    action = Action.begin(start, EvidenceConfig(), WALL_NS, media=True)
    assert (action.start_ns, action.best_ns) == (at(12.5), at(13))
    action.event = msgspec.structs.replace(
        start, type="end", media_time=(12.5, 14.0), end_time=word(500)
    )
    assert action.end_ns == at(14)
    # Whichever axis its times are on, the time of day says how long ago that was.
    assert not action.ended_before(WALL_NS + at(499))
    assert action.ended_before(WALL_NS + at(501))
