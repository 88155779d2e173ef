"""Training sequences: targets, stacks, joins, and what a batch holds."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.arrays import STILL
from pipeline.steps.flow_fields import FlowStack
from tests.training.tiny import tiny_clip, tiny_clips, tiny_config
from training.config import CompositionConfig
from training.data import Stroke
from training.sequences import (
    Composer,
    Join,
    chained,
    foresight,
    make_pools,
    stack_indices,
    stack_valid,
    targets,
)


def test_a_label_holds_from_when_it_can_be_told_until_after_its_stroke() -> None:
    config = CompositionConfig(hold=3, settle=2, recognisable=0.8, undecided=0.2)
    target, weight = targets([Stroke(2, 5, 15)], 25, config, background=0)
    assert target.tolist() == [0] * 13 + [2] * 5 + [0] * 7
    assert weight.tolist() == [1] * 11 + [0] * 2 + [1] * 5 + [0] * 2 + [1] * 5


def test_a_stroke_that_began_before_the_sequence_has_no_target() -> None:
    config = CompositionConfig(hold=3, settle=0)
    target, weight = targets([Stroke(1, -8, 2)], 8, config, background=0)
    assert (target == 0).all()
    assert weight.tolist() == [0] * 5 + [1] * 3


def test_foresight_grows_along_a_stroke() -> None:
    drawn, progress = foresight([Stroke(2, 1, 5)], 6)
    assert drawn[1:5].tolist() == [2] * 4
    assert progress.tolist() == [0, 0.25, 0.5, 0.75, 1.0, 0]


def test_stacks_are_those_of_the_live_pipeline() -> None:
    stack, steps = 3, 12
    moving = np.ones(steps, np.bool_)
    moving[[0, 6]] = False
    fields = np.arange(steps, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 2), np.uint8)
    live, out = FlowStack(stack), np.zeros((stack, 2, 2, 2), np.uint8)
    ours, valid = fields[stack_indices(steps, stack)], stack_valid(moving, stack)
    for step in range(steps):
        whole = live.push(0, step, fields[step] if moving[step] else None, 1)
        assert whole == valid[step]
        if whole:
            live.write(out)
            assert (out == ours[step]).all()


def test_joins_put_a_field_where_there_is_one() -> None:
    config = tiny_config()
    parts = [tiny_clip(1), tiny_clip(2), tiny_clip(1, 1), tiny_clip(0)]
    method = Composer(config, make_pools(config, parts, [], []))._method
    chain = chained(parts, [Join.CUT, Join.STILL, Join.SEGMENT], method, config)
    assert [bool(chain.moving[at]) for at in (10, 20, 30)] == [True, True, False]
    assert (chain.fields[10] != STILL).any()
    assert (chain.fields[20] == STILL).all()
    assert [(s.label, s.first) for s in chain.strokes] == [(1, 0), (2, 10), (1, 20)]


def test_sequences_have_the_asked_shape_and_every_label() -> None:
    config = tiny_config()
    composer = Composer(config, make_pools(config, tiny_clips(), tiny_clips(), []))
    rng = np.random.default_rng(0)
    batches = [composer.batch(rng) for _ in range(8)]
    assert batches[0].fields.shape == (4, 24, 16, 16, 2)
    assert batches[0].target.shape == batches[0].weight.shape == (4, 24)
    told = np.concatenate([batch.target[batch.weight > 0] for batch in batches])
    assert set(told.tolist()) == {0, 1, 2}
    assert not any(batch.moving[:, 0].any() for batch in batches)


def test_a_sequence_shows_each_look_of_a_clip() -> None:
    clip = tiny_clip(1)
    marked = replace(
        clip, grid=np.zeros_like(clip.grid), looks=np.ones_like(clip.looks), strokes=()
    )
    config = tiny_config(composition={"steps": 8, "lead_in": 0.0})
    composer = Composer(config, make_pools(config, [marked], [], []))
    rng = np.random.default_rng(0)
    seen = {float(composer.sequence(rng).grid[0].max()) for _ in range(20)}
    assert seen == {0.0, 1.0}


def test_scribbles_have_no_target_but_background() -> None:
    changes = {"scribbles": 1.0, "scribbled": ["left"], "lead_in": 0.0, "steps": 24}
    config = tiny_config(composition=changes)
    composer = Composer(config, make_pools(config, tiny_clips(), [], []))
    batch = composer.batch(np.random.default_rng(0))
    assert (batch.target == 0).all()
    assert (batch.progress == 0).all()
    with pytest.raises(ValueError, match="scribbled must name the labels"):
        tiny_config(composition={"scribbles": 0.5})
