"""What a bridge takes from a program: its states, and evidence after its events."""

from pathlib import Path

import pytest

from bridges.cursor import Position
from bridges.feed import SILENT_S, Feed
from bridges.records import ProgramState
from testbed.bridge import wait_for
from testbed.clock import HandClock
from testbed.program import scratch_folder
from testbed.publisher import Publisher
from tests.bridges.parts import LONG_S, add_evidence, fill


def feed_of(folder: Path, clock: HandClock, known: dict[str, Position] | None = None) -> Feed:
    ends = f"ipc://{folder}/events", f"ipc://{folder}/replay"
    return Feed(ends, None, known or {}, oldest=True, clock=clock)


def test_a_program_that_never_answers_is_offline_after_a_while(tmp_path: Path) -> None:
    """A broker may still hold that it is online, from before."""
    clock = HandClock()
    with scratch_folder() as folder:
        feed = feed_of(folder, clock)
        assert feed.next(0.01) is None
        assert (feed.program, list(feed.news())) == (None, [])
        clock.sleep(SILENT_S + 1)
        assert feed.next(0.01) is None
        (state,) = feed.news()
        assert isinstance(state, ProgramState)
        assert state[:2] == ("offline", ())
        assert feed.next(0.01) is None
        assert list(feed.news()) == []
        feed.everything()
        assert list(feed.news()) == [state]
        feed.close()


@pytest.mark.slow
def test_states_come_when_they_change_and_evidence_not_before_its_event() -> None:
    clock = HandClock()
    with scratch_folder() as folder:
        fill(folder / "events.sqlite", 2)
        add_evidence(folder / "events.sqlite", 2)
        with Publisher(folder) as publisher:
            feed = feed_of(folder, clock)
            found: list[str] = []
            states: dict[str, object] = {}

            def take() -> None:
                clock.sleep(0.1)
                record = feed.next(0.05)
                if record is not None:
                    number = f"evidence {record.seq}" if hasattr(record, "kind") else record.seq
                    found.append(str(number))
                for state in feed.news():
                    states[getattr(state, "camera", type(state).__name__)] = state

            def has_all() -> bool:
                take()
                return "evidence 2" in found and {"door", "yard", "ProgramState"} <= states.keys()

            wait_for(has_all, LONG_S, "records and states")
            assert found.index("evidence 2") > found.index("2") > found.index("1")
            program = states["ProgramState"]
            assert isinstance(program, ProgramState)
            assert program[:2] == ("online", ("door", "yard"))
            states.clear()
            publisher.status("door", "offline")

            def changed() -> bool:
                take()
                return "door" in states

            wait_for(changed, LONG_S, "the camera's state")
            feed.close()
