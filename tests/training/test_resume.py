"""The same run is the same run: with more workers, and after an interruption."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.training.tiny import tiny_clips, tiny_config, write_data
from training.__main__ import app
from training.config import TrainConfig
from training.crossvalidation import load_data, trainer_for
from training.model import TwoStream, load_checkpoint
from training.optimise import Interrupted, Run, Trainer, train_model
from training.resume import StateError
from training.sequences import Composer, make_pools

ROOT = Path(__file__).parents[2]
Whole = tuple[TwoStream, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def short(iterations: int = 6, seed: int = 0) -> TrainConfig:
    return tiny_config(optimiser={"iterations": iterations, "batch": 2}, seed=seed)


def composer(config: TrainConfig) -> Composer:
    return Composer(config, make_pools(config, tiny_clips(2), [], []))


def trained(config: TrainConfig, run: Run | None = None) -> TwoStream:
    return train_model(config, composer(config), lambda *_: None, run)


@pytest.fixture(scope="module")
def whole() -> Whole:
    """The model of a run that nothing interrupted, and what it reported."""
    torch.set_num_threads(1)
    reports: list[tuple[int, float]] = []
    model = train_model(short(), composer(short()), lambda *args: reports.append(args), Run())
    return model, reports


def same(one: TwoStream, other: TwoStream) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_a_seed_gives_the_same_weights_with_any_number_of_workers(whole: Whole) -> None:
    model, _ = whole
    torch.manual_seed(1234)  # what happened before doesn't matter
    assert same(model, trained(short()))
    assert same(model, trained(short(), Run(workers=1)))
    assert same(model, trained(short(), Run(workers=2)))
    assert not same(model, trained(short(seed=1)))


def stops_after(iteration: int, reports: list[tuple[int, float]]) -> Callable[[], bool]:
    return lambda: reports[-1][0] == iteration


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    tmp_path: Path, workers: int, whole: Whole
) -> None:
    config, state = short(), tmp_path / "fold0.state"
    model, reports = whole
    parts: list[tuple[int, float]] = []
    for stop_after in (2, 3):
        run = Run(workers=workers, state=state, stop=stops_after(stop_after, parts))
        with pytest.raises(Interrupted, match=f"after {stop_after} of 6 iterations"):
            train_model(config, composer(config), lambda *args: parts.append(args), run)
    trainer = Trainer(config, composer(config), Run(workers=workers, state=state))
    resumed = trainer.train(lambda *args: parts.append(args))
    assert parts == reports
    assert trainer.curves.loss == [loss for _, loss in reports]
    assert same(model, resumed)


@pytest.mark.slow
def test_a_state_is_written_every_so_often(tmp_path: Path, whole: Whole) -> None:
    config, state = short(), tmp_path / "fold0.state"
    trained(config, Run(state=state, save_every=4))
    trainer = Trainer(config, composer(config), Run(state=state))
    assert trainer.iteration == len(trainer.curves.loss) == 4
    assert same(trainer.train(lambda *_: None), whole[0])
    assert [path.name for path in tmp_path.iterdir()] == ["fold0.state"]


@pytest.mark.slow
def test_a_changed_run_does_not_resume(tmp_path: Path) -> None:
    state = tmp_path / "fold0.state"
    trained(short(), Run(state=state, save_every=4, data="these"))
    with pytest.raises(StateError, match=r"fold0\.state: .*iterations was 6, is 9.*--fresh"):
        trained(short(9), Run(state=state, data="these"))
    with pytest.raises(StateError, match="other clips"):
        trained(short(), Run(state=state, data="those"))
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(StateError, match=r"fold0\.state: not a training state"):
        trained(short(), Run(state=state))


@pytest.mark.slow
def test_measuring_on_the_way_changes_nothing(whole: Whole) -> None:
    config = short()
    asked: list[TwoStream] = []

    def measure(model: TwoStream) -> float:
        asked.append(model)
        torch.rand(7)
        return 0.5

    trainer = Trainer(config, composer(config), Run(measure_every=3, measure=measure))
    assert same(trainer.train(lambda *_: None), whole[0])
    assert trainer.curves.accuracy == [(3, 0.5), (6, 0.5)]
    assert not asked[0].training


@pytest.mark.slow
def test_a_killed_command_resumes(tmp_path: Path, decoded: Path) -> None:
    folder, config = write_data(tmp_path), short(30)
    (folder / "tiny.yaml").write_text(config.model_dump_json(exclude_defaults=True))
    words = [
        sys.executable, "-m", "training", "train", "--config", str(folder / "tiny.yaml"),
        "--data", str(folder), "--out", str(folder / "runs"), "--cache", str(decoded),
        "--folds", "0", "--no-final", "--save-every", "3",
    ]  # fmt: skip
    state = folder / "runs/tiny/fold0.state"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert "the same command resumes from there" in " ".join(printed.split())

    done = CliRunner().invoke(app, words[3:])
    assert done.exit_code == 0, done.output
    assert "fold0: resuming after" in done.stderr
    assert not state.exists()
    model, _, metrics = load_checkpoint(folder / "runs/tiny/fold0.pt")
    assert metrics["clips"] == 3
    data = load_data(config, folder, decoded)
    assert same(model, trainer_for(config, data, 0, Run()).train(lambda *_: None))
