"""Words of several processes about one camera become one state."""

from pipeline.public.camera_states import CameraStates
from pipeline.transport.messages import CameraState, CameraStatus, Quarantined


def status(state: CameraState, at_ns: int, camera: str = "door") -> CameraStatus:
    return CameraStatus(camera=camera, state=state, reason=None, at_ns=at_ns, segment=2)


def aside(reason: str | None, at_ns: int, stage: str = "flow:0") -> Quarantined:
    return Quarantined(camera="door", stage=stage, reason=reason, at_ns=at_ns)


def state_of(states: CameraStates) -> tuple[str, str | None]:
    known = states.get("door")
    assert known is not None
    return known.state, known.reason


def test_the_newest_word_counts_whatever_came_last() -> None:
    states = CameraStates()
    assert states.note(status("online", 5))
    assert not states.note(status("stalled", 4))
    assert state_of(states) == ("online", None)
    assert states.note(status("offline", 5))
    assert state_of(states)[0] == "offline"


def test_a_working_camera_that_a_stage_leaves_alone_is_in_quarantine() -> None:
    states = CameraStates()
    assert not states.note(aside("ValueError: no", 1))  # for an unknown camera
    assert states.get("door") is None
    states.note(status("online", 2))
    states.note(aside("ValueError: worse", 4, "spatial"))
    assert state_of(states) == (
        "quarantined", "flow:0: ValueError: no; spatial: ValueError: worse",
    )  # fmt: skip
    assert [s.at_ns for s in states] == [4]
    states.note(status("offline", 5))
    assert state_of(states)[0] == "offline"
    states.note(status("online", 6))
    states.note(aside(None, 7))
    assert state_of(states) == ("quarantined", "spatial: ValueError: worse")
    states.note(aside(None, 8, "spatial"))
    assert state_of(states) == ("online", None)


def test_a_dead_stage_leaves_nobody_alone() -> None:
    states = CameraStates()
    states.note(status("online", 1))
    states.note(aside("ValueError: no", 2))
    assert states.released("spatial", 3) == []
    (word,) = states.released("flow:0", 3)
    states.note(word)
    assert state_of(states) == ("online", None)


def test_who_knows_nothing_is_told_all_that_holds() -> None:
    states = CameraStates()
    states.note(status("online", 1))
    states.note(status("failed", 1, "yard"))
    states.note(aside("ValueError: no", 2))
    states.note(aside("gone", 2, "spatial"))
    states.note(aside(None, 3, "spatial"))
    other = CameraStates()
    for word in states.reports():
        other.note(word)
    assert list(other) == list(states)
    assert len(other) == 2
