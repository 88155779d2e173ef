"""A program whose events wait for a slow receiver is there all the same."""

import time

import pytest

from bridges import feed
from bridges.records import ProgramState
from pipeline.clock import SYSTEM_CLOCK
from testbed.program import scratch_folder
from testbed.publisher import Publisher


@pytest.mark.slow
def test_the_program_is_not_taken_for_away_while_its_events_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The client asks every two seconds.
    monkeypatch.setattr(feed, "SILENT_S", 3.0)
    with scratch_folder() as folder, Publisher(folder) as publisher:
        for number in range(100):
            publisher.act("start", number=number)
        taken = feed.Feed(publisher.endpoints, None, {}, oldest=True, clock=SYSTEM_CLOCK)
        states, until = [], time.monotonic() + 5.0
        while time.monotonic() < until:
            taken.next(0.1)
            states += [state for state in taken.news() if isinstance(state, ProgramState)]
            time.sleep(0.1)
        taken.close()
    assert {state.state for state in states} == {"online"}
    assert states[-1].cameras == ("door", "yard")
