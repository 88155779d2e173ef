"""The loop, the checkpoint, the measuring and the command line, on tiny data."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tests.training.tiny import tiny_clip, tiny_clips, tiny_config
from training.__main__ import app
from training.batches import scenes
from training.clip_augment import stretched
from training.clip_list_formats import DataError
from training.config import ConfigError, TrainConfig
from training.crossvalidation import (
    GIVEN,
    Data,
    Measured,
    composer_for,
    fold_thresholds,
    measure,
    measure_fold,
    stream_figures_of,
    summary,
)
from training.data import Stroke, load_clips
from training.measure import clip_tensors, stream_scores
from training.model import CheckpointError, load_checkpoint, new_model, save_checkpoint
from training.optimise import train_model
from training.sequences import Composer, make_pools
from training.stream_figures import (
    COMMON_S,
    ScoredStream,
    Sweeps,
    Tally,
    fit_thresholds,
    quiet_figures,
    sweep,
    total,
)

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


@pytest.mark.slow
def test_training_lowers_the_loss_and_tells_left_from_right(tmp_path: Path) -> None:
    config = tiny_config()
    composer = Composer(config, make_pools(config, tiny_clips(), [], []))
    losses: list[float] = []
    model = train_model(config, composer, lambda _, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    held_out = [stretched(tiny_clip(label, 90 + label), 0.5) for label in (1, 2)]
    said = [stream_scores(model, clip, config.window).temporal[-1].argmax() for clip in held_out]
    assert said == [1, 2]

    measured = [measure(model, config, tiny_clips(), [])]
    metrics = summary(config, measured, fold_thresholds(config, measured))
    path = tmp_path / "final.pt"
    save_checkpoint(path, model, config, metrics)
    again, same_config, same_metrics = load_checkpoint(path)
    assert same_config == config
    assert same_metrics == metrics
    for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_bfloat16_learns_nearly_what_float32_learns() -> None:
    def losses(*, bfloat16: bool) -> list[float]:
        config = tiny_config(optimiser={"iterations": 6, "batch": 2, "bfloat16": bfloat16})
        composer = Composer(config, make_pools(config, tiny_clips(2), [], []))
        kept: list[float] = []
        train_model(config, composer, lambda _, loss: kept.append(loss))
        return kept

    rounded, exact = losses(bfloat16=True), losses(bfloat16=False)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


def test_a_fold_is_judged_by_thresholds_that_were_fitted_to_the_others() -> None:
    config = tiny_config()
    strokes = tiny_clip(1, steps=30).strokes

    def fold(score: float) -> Measured:
        scores = np.tile(np.array([0.98, 0.01, 0.01], np.float32), (60, 1))
        scores[28:38] = (0.99 - score, score, 0.01)
        return Measured([], [], [], [ScoredStream(scores, strokes)], [], [])

    measured = [fold(0.9), fold(0.9), fold(0.52)]
    *left_out, everyone = fold_thresholds(config, measured)
    assert [thresholds["left"].start for thresholds in left_out] == [0.5, 0.5, 0.85]
    assert everyone["left"].start == 0.5
    (alone, _) = fold_thresholds(config, measured[:1])
    assert alone["left"].start == 0.85
    figures = stream_figures_of(config, measured, [*left_out, everyone])["rendered_streams"]
    assert isinstance(figures, dict)
    assert (figures["gestures"], figures["found"]) == (3, 2)


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weights": {}}, path)
    with pytest.raises(CheckpointError, match=r"other\.pt: not a checkpoint"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.slow
def test_the_frozen_backbone_stays_what_it_was() -> None:
    config = tiny_config(optimiser={"iterations": 2, "batch": 2})
    composer = Composer(config, make_pools(config, tiny_clips(1), [], []))
    before = new_model(config).spatial.backbone.state_dict()
    after = train_model(config, composer, lambda *_: None).spatial.backbone.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_one_pass_is_the_sliding_window() -> None:
    config = tiny_config()
    model = new_model(config).eval()
    clip = tiny_clip(1, steps=40)
    scores = stream_scores(model, clip, config.window).fused
    assert scores.shape == (40, 3)
    grid, fields, mask = clip_tensors(clip, model.stack)
    with torch.inference_mode():
        planes = model.temporal.resized(fields)
        features = (*model.step_features(grid[None], planes[None]), mask[None])
        for step in (0, 5, 23, 24, 39):
            window = [x[:, max(0, step + 1 - config.window) : step + 1] for x in features]
            assert np.allclose(model.fusion(*window)[0][0].numpy(), scores[step], atol=1e-5)


def test_swapped_scenes_come_from_the_sequence_before() -> None:
    config = tiny_config(composition={"steps": 24, "swap_scene": 0.5})
    source = scenes(64, config, np.random.default_rng(0)).numpy()
    rows = np.arange(64)
    own = source == rows
    assert 0 < own.sum() < 64
    assert (source[~own] == (rows[~own] - 1) % 64).all()


def test_thresholds_find_gestures_without_false_events() -> None:
    config = tiny_config()
    clip = tiny_clip(1, steps=30)
    scores = np.tile(np.array([0.98, 0.01, 0.01], np.float32), (60, 1))
    scores[28:34] = (0.1, 0.85, 0.05)
    scores[45:48] = (0.3, 0.05, 0.65)  # nobody drew anything: a false alarm below 0.7
    streams = [ScoredStream(scores, clip.strokes)]
    thresholds = fit_thresholds(config, Sweeps(sweep(streams, config), {}, {}))
    assert thresholds["right"].start > 0.65 or thresholds["right"].min_duration_s > 0.3
    counts = total(streams, config, {**thresholds, "background": thresholds["left"]})
    assert (counts[1].strokes, counts[1].found, counts[1].false) == (1, 1, 0)
    assert 2 not in counts


def test_only_a_label_that_needs_it_waits_long() -> None:
    """``left`` flickers up in the middle of ``right``s, as a caret does in a star."""
    config = tiny_config()
    rights, lefts = tiny_clip(2, steps=30).strokes, tiny_clip(1, steps=30).strokes

    def stream(label: int, strokes: tuple[Stroke, ...]) -> ScoredStream:
        scores = np.tile(np.array([0.98, 0.01, 0.01], np.float32), (60, 1))
        if label == 2:
            scores[16:21] = (0.03, 0.95, 0.02)
        scores[24:26] = (0.05, 0.475, 0.475)
        scores[26:38, 0], scores[26:38, label] = 0.02, 0.97
        return ScoredStream(scores, strokes)

    streams = [stream(2, rights)] * 8 + [stream(1, lefts)] * 8
    thresholds = fit_thresholds(config, Sweeps(sweep(streams, config), {}, {}))
    assert thresholds["left"].min_duration_s > COMMON_S >= thresholds["right"].min_duration_s
    thresholds["background"] = thresholds["right"]
    counts = sum(total(streams, config, thresholds).values(), Tally())
    assert (counts.found, counts.false) == (16, 0)


def test_thresholds_of_the_recipe_are_kept() -> None:
    given = {"start": 0.9, "end": 0.2, "min_duration_s": 0.5}
    config = tiny_config(thresholds={"left": given, "right": given})
    measured = Measured([1], [[1, 1, 1]], ["clip"], [], [], [])
    fitted = fold_thresholds(config, [measured, measured])
    assert [t["left"].start for t in fitted] == [0.9] * 3
    assert summary(config, [measured, measured], fitted)["thresholds_note"] == GIVEN


@pytest.mark.slow
def test_footage_without_gestures_raises_the_threshold_of_the_label_that_it_looks_like() -> None:
    config = tiny_config()
    strokes = tiny_clip(1, steps=30).strokes

    def stream(score: float, strokes: tuple[Stroke, ...]) -> ScoredStream:
        scores = np.tile(np.array([0.98, 0.01, 0.01], np.float32), (60, 1))
        scores[28:38] = (0.99 - score, score, 0.01)
        return ScoredStream(scores, strokes)

    streams = [stream(0.9, strokes)] * 8 + [stream(0.62, strokes)] * 2
    walkers = [stream(0.66, ())] * 2
    found = {}
    for name, quiet in (("alone", []), ("warned", walkers)):
        thresholds = fit_thresholds(
            config, Sweeps(sweep(streams, config), {}, sweep(quiet, config))
        )
        thresholds["background"] = thresholds["right"]
        counts = sum(total(streams, config, thresholds).values(), Tally())
        false = sum(total(walkers, config, thresholds).values(), Tally())
        found[name] = counts.found, quiet_figures(false, 0.1)["false_events"]
    assert found == {"alone": (10, 2), "warned": (8, 0)}
    assert Tally(16, 16, 0).f1 == 1.0
    assert Tally(4, 2, 2).f1 == 0.5


def test_what_is_held_out_is_held_out_of_the_negatives_too() -> None:
    config = tiny_config(
        composition={"steps": 24, "negatives": 1.0, "lead_in": 1.0},
        optimiser={"iterations": 2, "batch": 2},
    )
    data = Data(tiny_clips(), [tiny_clip(0, seed) for seed in range(90, 94)], [], [])
    measured = measure_fold(new_model(config).eval(), config, data, 1)
    assert len(measured.truth) == 6
    assert len(measured.quiet) == 2
    for fold, there in ((0, {1}), (1, {0}), (None, {0, 1})):
        pools = composer_for(config, data, fold).pools
        assert {clip.fold for clip in pools.negatives} == there
        assert {clip.fold for part in pools.by_label.values() for clip in part} == there


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nspeed: 3\n", "version"),
        ("[", "1:2: not YAML"),
    ],
)
def test_a_bad_configuration_is_refused_with_file_and_key(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml:.*{words}"):
        TrainConfig.load(path)


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        ({"path": "a.csv", "formt": "csv"}, "clips.list.formt: Extra inputs"),
        ({"path": "a.csv", "format": "tsv"}, "clips.list.format: Input should be 'auto'"),
    ],
)
def test_a_bad_list_in_a_configuration_is_refused_by_its_key(
    tmp_path: Path, clips: dict[str, str], words: str
) -> None:
    good = yaml.safe_load((CONFIGS / "gestures.yaml").read_text())
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**good, "clips": clips}))
    with pytest.raises(ConfigError, match=words):
        TrainConfig.load(tmp_path / "bad.yaml")


# flow.yaml is the flow network's, and none of these.
SHIPPED = sorted(path for path in CONFIGS.glob("*.yaml") if path.stem != "flow")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert TrainConfig.load(path).name == path.stem


def test_missing_data_is_refused_with_a_reason(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["train", "--config", str(CONFIGS / "gestures.yaml"), "--data", str(tmp_path)]
    )
    assert result.exit_code == 2
    with pytest.raises(DataError, match=r"clips\.csv: No such file"):
        load_clips(tiny_config(), tmp_path, tmp_path, "clips.csv")


@pytest.mark.slow
@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
def test_real_clips_are_decoded_and_cached(tmp_path: Path) -> None:
    data = Path(os.environ["TWO_STREAM_DATA"])
    config = TrainConfig.load(CONFIGS / "gestures.yaml")
    listed = tmp_path / "few.csv"
    assert isinstance(config.clips, str)
    lines = (data / config.clips).read_text().splitlines()
    wanted = [line for line in lines if "/left_1.mp4" in line or "/background_1.mp4" in line]
    rows = "\n".join(str(data / line) for line in wanted)
    listed.write_text(f"{lines[0]}\n{rows}\n")
    cache = tmp_path / "cache"
    first, unreadable = load_clips(config, Path("/"), cache, str(listed))
    assert not unreadable
    assert {config.labels[clip.label] for clip in first} == {"left", "background"}
    assert len(list(cache.iterdir())) == 4  # motion and appearance of two
    second = load_clips(config, Path("/"), cache, str(listed)).clips
    for clip, again in zip(first, second, strict=True):
        assert clip.fields.shape == (len(clip), 24, 32, 2)
        assert clip.grid.shape == (len(clip), 112, 6, 8)
        assert clip.looks.shape == (2, len(clip), 112, 6, 8)
        off = np.abs(clip.looks.astype(np.float32) - clip.grid.astype(np.float32)).mean(
            (1, 2, 3, 4)
        )
        assert (off > 0.05 * np.abs(clip.grid.astype(np.float32)).mean()).all()
        assert (again.looks == clip.looks).all()
        assert (again.fields == clip.fields).all()
        assert again.strokes == clip.strokes
    left = next(clip for clip in first if config.labels[clip.label] == "left")
    assert left.fields[..., 0].astype(float).mean() < 128
