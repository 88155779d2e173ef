"""The ablation: streams stay as they are, every fusion learns, finished folds are kept."""

from pathlib import Path

import pytest
import torch

from tests.training.tiny import linear_config, still_or_moving, tiny_clips, tiny_config
from training.ablation import (
    COLUMNS,
    KINDS,
    Ledger,
    ablate_fold,
    ablate_linear,
    rival_iterations,
    rivals,
    shortened,
    table,
    train_rivals,
    with_flow,
)
from training.crossvalidation import Data, trainer_for
from training.linear import FixedStreams
from training.model import new_model
from training.optimise import Run
from training.sequences import Composer, make_pools


@pytest.mark.slow
def test_every_fusion_learns_and_the_streams_do_not() -> None:
    config = tiny_config(
        optimiser={"iterations": 8, "batch": 2, "learning_rate": 0.01, "average_decay": 0.9}
    )
    composer = Composer(config, make_pools(config, tiny_clips(), [], []))
    model = new_model(config).eval()
    models = rivals(model, config)
    before = {kind: {k: v.clone() for k, v in m.state_dict().items()} for kind, m in models.items()}
    losses: list[float] = []
    train_rivals(models, config, composer, 0, lambda _, loss: losses.append(loss))
    assert len(losses) == 4
    for kind, rival in models.items():
        changed = {
            name.split(".")[1] if name.startswith("fusion") else name.split(".")[0]
            for name, value in rival.state_dict().items()
            if not torch.equal(value, before[kind][name])
        }
        wanted = {"score": {"balance", "log_sharpness"}, "concat": {"fused_head"}}
        more = {"weighted": {"fused_head", "balance"}, "attention": {"fused_head", "attend"}}
        assert changed == {**wanted, **more}[kind]
        assert not rival.training


@pytest.mark.slow
def test_a_fold_is_counted_for_every_column() -> None:
    config = tiny_config(
        optimiser={"iterations": 30, "batch": 4, "learning_rate": 0.01, "average_decay": 0.9}
    )
    data = Data(tiny_clips(), [], [], [])
    model = trainer_for(config, data, 0, Run()).train(lambda iteration, loss: None)
    done: list[int] = []
    counts = ablate_fold(model, config, data, 0, 0, lambda iteration, loss: done.append(iteration))
    assert set(counts) == {*COLUMNS, "clips"}
    assert counts["clips"] == 6
    assert counts["temporal"] >= 4  # chance is 2
    assert max(counts[kind] for kind in KINDS) >= 4
    assert done == list(range(1, rival_iterations(config) + 1))


@pytest.mark.slow
def test_linear_recipes_are_fitted_for_every_fusion(linear_streams: FixedStreams) -> None:
    config = linear_config()
    data = Data(still_or_moving(4), [], [], [], streams=linear_streams)
    done: list[int] = []
    counts = ablate_linear(config, data, 0, lambda iteration, loss: done.append(iteration))
    assert counts == {"clips": 4, "spatial": counts["spatial"], **dict.fromkeys(COLUMNS[1:], 4)}
    assert done[-1] <= rival_iterations(config)
    assert done == sorted(done)


def test_another_flow_changes_nothing_else() -> None:
    config = tiny_config()
    other = with_flow(config, "lucas_kanade")
    assert other.temporal.method == "lucas_kanade"
    assert with_flow(other, "dis") == config


def test_finished_folds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "ablation.json"
    ledger = Ledger(path)
    assert ledger.rows == {}
    counts = {"clips": 4, **dict.fromkeys(COLUMNS, 3)}
    ledger.add("gestures dis 0 abc", counts)
    assert Ledger(path).rows == {"gestures dis 0 abc": counts}


def test_the_table_weighs_folds_by_their_clips() -> None:
    one = {"clips": 1, **dict.fromkeys(COLUMNS, 1)}
    three = {"clips": 3, **dict.fromkeys(COLUMNS, 0)}
    lines = table({"tiny, dis": [one, three]}).splitlines()
    assert lines[0] == "| set, flow | clips | " + " | ".join(COLUMNS) + " |"
    assert lines[2] == "| tiny, dis | 4 | " + " | ".join(["25.0"] * len(COLUMNS)) + " |"


def test_a_recipe_is_shortened_and_never_lengthened() -> None:
    config = tiny_config(episodes=3, optimiser={"iterations": 8})
    assert shortened(config, None, None) == config
    assert shortened(config, 2, None).optimiser.iterations == 2
    assert shortened(config, None, 1).episodes == 1
    assert shortened(config, None, 99).episodes == 3
    assert shortened(config, 2, 1).labels == config.labels
