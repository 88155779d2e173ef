"""Reading an event log that another process writes."""

from pathlib import Path

import msgspec

from pipeline.public.event_log import EventLog
from pipeline.public.log_reader import LogReader
from pipeline.public.records import Event
from pipeline.transport.messages import EvidenceMade
from testbed.samples import event


def stored(log: EventLog, number: int) -> None:
    def make(seq: int, _: str | None) -> Event:
        return msgspec.structs.replace(event(seq), seq=seq, id=f"door-{seq}")

    log.append("e", number, f"k{number}", make)


def test_it_sees_what_is_stored_and_nothing_before_there_is_a_log(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    reader = LogReader(path)
    assert (reader.is_readable(), reader.last_seq(), reader.events_since(0)) == (False, 0, [])
    log = EventLog(path)
    assert reader.is_readable()
    for number in range(1, 4):
        stored(log, number)
    assert reader.last_seq() == 3
    assert [one.seq for one in reader.events_since(1)] == [2, 3]
    stored(log, 4)
    assert [one.seq for one in reader.events_since(3)] == [4]
    reader.close()
    log.close()


def test_evidence_has_numbers_of_its_own_and_is_stored_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    stored(log, 1)
    made = EvidenceMade(
        id="door-01", seq=1, camera="door", label="left", kind="clip", state="ready"
    )
    first = log.append_evidence(made)
    assert first is not None
    assert (first.evidence.number, first.evidence.log) == (1, log.identity)
    assert log.append_evidence(made) is None
    second = log.append_evidence(msgspec.structs.replace(made, state="removed"))
    assert second is not None
    assert [number for number, _ in log.evidence_since(0, 10)] == [1, 2]
    assert [number for number, _ in log.evidence_since(1, 10)] == [2]
    assert (log.last_evidence(), log.last_seq()) == (2, 1)
    reader = LogReader(log.path)
    assert [one.state for one in reader.evidence_from(1)] == ["ready", "removed"]
    log.close()


def test_the_evidence_of_deleted_events_goes_with_them(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.sqlite")
    for number in range(1, 5):
        stored(log, number)
        made = EvidenceMade(
            id=f"door-{number}", seq=number, camera="door", label="left", kind="clip",
            state="ready",
        )  # fmt: skip
        log.append_evidence(made)
    log.begin_epoch("other", lambda seq, last: msgspec.structs.replace(last, seq=seq, type="end"))
    before = log.last_evidence()
    assert log.delete_old(None, 1) > 0
    # The newest stays: the numbers go on from it.
    assert [number for number, _ in log.evidence_since(0, 10)] == [4]
    assert log.last_evidence() == before
    log.close()
