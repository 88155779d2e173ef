"""Actions that happen somewhere in their clips are found."""

from pathlib import Path

import numpy as np

from teach.examples import Example
from teach.features import ClipFeatures
from teach.lesson import Lesson
from teach.located import located
from tests.teach.parts import LABELS, LOOKS, STEPS, base, clip

PIECES = ("flow", "still")


def after(*pieces: ClipFeatures) -> ClipFeatures:
    """Clips one after the other as one."""
    return ClipFeatures(
        pieces[0].path,
        np.arange(sum(one.steps for one in pieces)) * 100_000_000,
        {name: np.concatenate([one.streams[name] for one in pieces]) for name in PIECES},
        {name: np.concatenate([one.present[name] for one in pieces]) for name in PIECES},
    )


def recordings() -> tuple[list[Example], dict[str, int]]:
    """Clips in which an action happens at some time, and the step at which each ends."""
    random = np.random.default_rng(3)
    found, ends = [], {}
    for label in (1, 2):
        for take in range(6):
            lead, tail = (int(n) for n in random.integers(0, 60, 2))
            seed = 100 * label + take
            action = clip(LABELS.names[label], seed)
            whole = after(
                clip("background", seed + 1000, lead), action, clip("background", seed + 2000, tail)
            )
            name = f"{LABELS.names[label]} {take}"
            found.append(Example(whole, label, name, name))
            ends[name] = lead + STEPS
    quiet = [
        Example(clip("background", take, 80), 0, f"quiet {take}", f"quiet {take}")
        for take in range(6)
    ]
    return [*found, *quiet], ends


def test_each_action_is_found_within_three_steps(tmp_path: Path) -> None:
    examples, ends = recordings()
    parts, whose = located(base(tmp_path), PIECES, examples, LABELS, STEPS)
    actions = {one.name: one for one in parts if one.label != 0}
    assert set(actions) == set(ends)
    for name, end in ends.items():
        last = actions[name].clip.times_ns[-1] // 100_000_000 + 1
        assert abs(last - end) <= 3, name
        assert actions[name].clip.steps == STEPS
    assert [examples[place].group for place in whose] == [one.group for one in parts]


def test_what_came_well_before_is_background_of_the_same_group(tmp_path: Path) -> None:
    examples, ends = recordings()
    parts, _ = located(base(tmp_path), PIECES, examples, LABELS, STEPS)
    before = {one.group: one for one in parts if one.name.endswith("(before)")}
    long_lead = {name for name, end in ends.items() if end - STEPS >= 2 * STEPS + 3}
    assert long_lead <= set(before)
    for name, one in before.items():
        assert one.label == 0
        assert one.clip.steps <= ends[name] - STEPS, "nothing of the action is background"


def test_short_clips_and_background_stay_as_they_are(tmp_path: Path) -> None:
    short = [Example(clip("left", n), 1, f"left {n}", f"left {n}") for n in range(3)]
    quiet = [Example(clip("background", n, 50), 0, f"q {n}", f"q {n}") for n in range(3)]
    parts, whose = located(base(tmp_path), PIECES, [*short, *quiet], LABELS, STEPS)
    assert [one.name for one in parts] == [one.name for one in [*short, *quiet]]
    assert [one.clip.steps for one in parts] == [STEPS] * 3 + [50] * 3
    assert whose == list(range(6))


def test_a_lesson_of_what_was_found_is_better(tmp_path: Path) -> None:
    examples, _ = recordings()
    made = base(tmp_path)
    parts, _ = located(made, PIECES, examples, LABELS, STEPS)
    found = Lesson(made, parts, LABELS, PIECES, STEPS)
    whole = Lesson(made, examples, LABELS, PIECES, STEPS)
    assert found.top1(found.trial(LOOKS)) > whole.top1(whole.trial(LOOKS))


def test_folds_of_a_list_choose_what_learns_from_what(tmp_path: Path) -> None:
    """With all clips in two folds the actions are found too."""
    examples, ends = recordings()
    folds = [place % 2 for place in range(len(examples))]
    parts, _ = located(base(tmp_path), PIECES, examples, LABELS, STEPS, folds)
    found = {one.name: one.clip.times_ns[-1] // 100_000_000 + 1 for one in parts if one.label}
    near = sum(abs(found[name] - end) <= 3 for name, end in ends.items())
    assert near >= len(ends) - 1
