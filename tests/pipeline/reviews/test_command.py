"""The command ``review``."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.reviews.__main__ import cli
from pipeline.reviews.records import Review, in_force
from pipeline.reviews.store import ReviewStore, path_beside
from tests.bridges.parts import fill

SINCE = "2026-11-01T00:00:00Z"
"""Before the events of :func:`testbed.samples.event`."""


class Desk:
    """A log of three events, and the command on it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.log = folder / "events.sqlite"
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump({"events": {"log": str(self.log)}}))
        fill(self.log, 3, end_time="2026-11-22T10:00:02.000Z")

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code and all that was printed."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli([*words, "-c", str(self.config)])
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out + err

    def reviews(self) -> list[Review]:
        return in_force(ReviewStore(path_beside(self.log)).all())


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_events_are_marked_and_listed(desk: Desk) -> None:
    assert desk("mark", "door-1", "right", "--by", "ann")[0] == 0
    assert desk("mark", "door-2", "wrong", "--note", "a cat")[0] == 0
    assert desk("mark", "door-3", "up")[0] == 0
    found = {one.event: one for one in desk.reviews()}
    assert (found["door-1"].verdict, found["door-1"].by) == ("right", "ann")
    assert (found["door-2"].verdict, found["door-2"].label) == ("wrong", None)
    assert (found["door-3"].verdict, found["door-3"].label) == ("other", "up")
    code, shown = desk("list", "--since", SINCE)
    assert code == 0
    assert all(words in shown for words in ("door-1", "right", "wrong", "other: up"))
    # Somebody else sees it differently; the newest counts.
    assert desk("mark", "door-1", "wrong", "--by", "bob")[0] == 0
    assert {one.event: one.by for one in desk.reviews()}["door-1"] == "bob"
    assert desk("mark", "door-1", "withdraw")[0] == 0
    assert [one.event for one in desk.reviews()] == ["door-2", "door-3"]


def test_what_was_missed_is_added(desk: Desk) -> None:
    words = ("missed", "--camera", "hall", "--label", "fall", "--start", "5m", "--end", "4m")
    assert desk(*words)[0] == 0
    (one,) = desk.reviews()
    assert (one.verdict, one.camera, one.label, one.event) == ("missed", "hall", "fall", None)
    code, said = desk(*words[:-1], "6m")
    assert (code, "--end 6m: must be after --start 5m" in said) == (2, True)


@pytest.mark.parametrize("name", ["reviews.json", "reviews.csv"])
def test_what_is_written_out_can_be_read_in_elsewhere(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:  # fmt: skip
    desk("mark", "door-1", "right")
    desk("mark", "door-2", "wrong")
    file = desk.folder / name
    assert desk("export", str(file))[0] == 0
    other = Desk(tmp_path_factory.mktemp("other"), capsys)
    code, said = other("import", str(file))
    assert (code, "2 new of 2" in said) == (0, True)
    assert other.reviews() == desk.reviews()
    assert "0 new of 2" in other("import", str(file))[1]


def test_each_event_is_asked_for_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["r", "o", "up", "q"])
    monkeypatch.setattr("builtins.input", lambda *_: next(answers))
    assert desk("ask", "--since", SINCE)[0] == 0
    assert [one.verdict for one in desk.reviews()] == ["right", "other"]
    answers = iter(["w"])
    assert desk("ask", "--since", SINCE)[0] == 0
    assert {one.event: one.verdict for one in desk.reviews()}["door-3"] == "wrong"
    answers = iter([])
    assert desk("ask", "--since", SINCE)[0] == 0


def test_what_is_wrong_is_a_line(desk: Desk) -> None:
    for words, says in (
        (("mark", "door-9", "right"), "door-9: no such event in the log"),
        (("list", "--since", "yesterday"), "--since yesterday: must be a span"),
        (("list", "--since", SINCE, "--camera", "dor"), "did you mean door"),
        (("export", "reviews.txt"), "must end in .json or .csv"),
        (("export", str(desk.folder / "none/reviews.csv")), "No such file or directory"),
        (("import", str(desk.folder / "none.csv")), "none.csv: No such file"),
    ):
        code, said = desk(*words)
        assert (code, says in said) == (2, True), said
        assert "Traceback" not in said
    (desk.folder / "bad.csv").write_bytes(b"\xff\xfe\x00camera")
    assert "not UTF-8" in desk("import", str(desk.folder / "bad.csv"))[1]
    (desk.folder / "bad.json").write_text(json.dumps({"database": 3}))
    assert "bad.json: not ActivityNet's" in desk("import", str(desk.folder / "bad.json"))[1]
    desk.config.write_text("events: {}")
    assert "the config names none" in desk("list")[1]
