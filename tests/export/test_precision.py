"""8 bits and float16: what they keep, what they cost, and when they're refused."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.accuracy import Outcome, milliseconds, predicted
from export.graphs import ExportError, export_graphs
from export.pack import (
    Measurement,
    Trial,
    Wanted,
    cost_of_int8,
    export_packs,
)
from export.parity import TOLERANCES
from export.precision import (
    CALIBRATION_ROWS,
    calibration_rows,
    precision_of,
    to_float16,
    to_int8,
)
from export.stepping import open_networks
from pipeline.errors import PackError
from pipeline.model.pack import NETWORKS, ModelPack, Precision
from pipeline.model.session import Network
from tests.export.tiny import FRAME_NS, drifting_clip, model_of, small_model_of
from tests.training.tiny import tiny_config
from training.config import TrainConfig
from training.data import Stepped, step_clip
from training.model import TwoStream

pytestmark = pytest.mark.slow

Packs = dict[Precision, ModelPack]
SMALL: tuple[Precision, ...] = ("int8", "float16")


def trial(model: TwoStream, config: TrainConfig, clips: list[Stepped]) -> Trial:
    return Trial(model, config, clips, ((n % 3, clip) for n, clip in enumerate(clips)))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Packs:
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    config = tiny_config()
    model = model_of(config)
    clips = [drifting_clip(config, 26, seed) for seed in range(3)]
    # The fold's model is a small one: to quantise EfficientNet takes four seconds each time.
    fold, recipe = small_model_of(config)
    measured = [drifting_clip(recipe, 26, seed) for seed in range(3)]
    measurement = Measurement([trial(fold, recipe, measured)], held_out=True)
    wanted = Wanted(("spatial", "temporal"), float16=True)
    export_packs(model, config, {}, clips, folder, wanted, measurement)
    suffixes: dict[Precision, str] = {"float32": "", "int8": "-int8", "float16": "-fp16"}
    return {
        name: ModelPack.load(folder.with_name(f"tiny{suffix}")) for name, suffix in suffixes.items()
    }


@pytest.mark.parametrize("kind", SMALL)
def test_the_contract_says_what_each_file_computes_in(packs: Packs, kind: Precision) -> None:
    contract = packs[kind].contract
    assert dict(contract.precision) == {"spatial": kind, "temporal": kind, "fusion": "float32"}
    for network in NETWORKS:
        graph = onnx.load(packs[kind].path(network))
        assert precision_of(graph) == getattr(contract.precision, network)
        assert {entry.domain for entry in graph.opset_import} == {""}
    assert contract.parity.tolerance == TOLERANCES[kind]
    assert contract.parity.outputs["spatial.features"] > 1e-5


@pytest.mark.parametrize(("kind", "largest"), [("int8", 0.4), ("float16", 0.6)])
def test_they_are_smaller_and_say_nearly_the_same(
    packs: Packs, kind: Precision, largest: float
) -> None:
    clip = drifting_clip(tiny_config(), 6, seed=7)
    rows = calibration_rows([clip], 3)
    for network, name in (("spatial", "frames"), ("temporal", "flow")):
        small, whole = (packs[which].path(network) for which in (kind, "float32"))
        if network == "spatial":
            assert small.stat().st_size < largest * whole.stat().st_size
        one, other = (
            Network(packs[which], network, providers=["CPUExecutionProvider"])
            .run({name: rows[network]})["features"]
            for which in (kind, "float32")
        )  # fmt: skip
        assert one.dtype == other.dtype == np.float32
        assert 0 < np.abs(one - other).mean() < 0.1 * np.abs(other).mean()


def test_what_8_bits_cost_stands_in_the_contract_and_the_card(packs: Packs) -> None:
    cost = packs["int8"].contract.quantised
    assert cost is not None
    assert (cost.clips, cost.held_out) == (3, True)
    assert cost.drop_points < 1.0
    assert packs["float32"].contract.quantised is None
    assert packs["float16"].contract.quantised is None
    cards = {kind: (pack.folder / "MODEL_CARD.md").read_text() for kind, pack in packs.items()}
    for card in cards.values():
        assert "| int8 / int8 / float32 |" in card
        assert "| float16 / float16 / float32 |" in card
        assert "| float32 / float32 / float32 |" in card
    assert "held out from the models measured, a fall of" in cards["int8"]
    assert "--int8 spatial,temporal --folds" in cards["int8"]


def test_networks_of_two_precisions_do_not_mix(packs: Packs, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for file in packs["float32"].folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "spatial.onnx").write_bytes(packs["float16"].path("spatial").read_bytes())
    hashes = {**packs["float32"].contract.sha256}
    hashes["spatial.onnx"] = packs["float16"].contract.sha256["spatial.onnx"]
    mixed = packs["float32"].contract.model_copy(update={"sha256": hashes})
    (folder / "pack.json").write_text(mixed.model_dump_json())
    with pytest.raises(PackError, match=r"spatial\.onnx: disagrees .* about 'parity'"):
        Network(ModelPack.load(folder), "spatial")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"quantised": None}, "spatial, temporal: int8, so 'quantised' must give the cost"),
        (
            {"precision": {}, "quantised": None},
            "parity.tolerance may be null only with a network in int8",
        ),
        ({"precision": {"spatial": "int4"}}, "precision.spatial: Input should be"),
    ],
)
def test_a_contract_must_say_what_its_precision_is_held_to(
    packs: Packs, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    stated = json.loads((packs["int8"].folder / "pack.json").read_text()) | change
    (tmp_path / "pack.json").write_text(json.dumps(stated))
    with pytest.raises(PackError, match=says):
        ModelPack.load(tmp_path)


def flickering_clip(config: TrainConfig, seed: int) -> Stepped:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (8, 12, 16, 3)).astype(np.uint8).repeat(6, 1).repeat(6, 2)
    return step_clip(((n * FRAME_NS, picture) for n, picture in enumerate(pictures)), config)


def deaf_to_motion(config: TrainConfig) -> tuple[TwoStream, TrainConfig]:
    """A model that decides by motion alone, and by motion far beyond its range in a still clip.

    In 8 bits that were calibrated on a still clip, each motion is clipped to that range.
    """
    model, config = small_model_of(config)
    with torch.no_grad():
        for parameter in model.spatial.parameters():
            parameter.zero_()
        # The last two planes are coordinates; all others are flow.
        model.temporal.get_parameter("backbone.layers.0.weight")[:, :-2] *= 100.0
    return model, config


def test_8_bits_that_cost_too_much_are_refused_with_figures(tmp_path: Path) -> None:
    # With these random weights, float32 and 8 bits give every clip different labels, each ahead of
    # the next by more than 0.1: CPUs that round differently give the same ones.
    model, config = deaf_to_motion(tiny_config(seed=3))
    black = step_clip(((n * FRAME_NS, np.zeros((72, 96, 3), np.uint8)) for n in range(4)), config)
    clips = [flickering_clip(config, seed) for seed in range(6)]
    folder = tmp_path / "pack"
    export_packs(model, config, {}, clips[:1], folder)
    pack = ModelPack.load(folder)
    # The float32 labels are taken as the truth, so float32 is always right.
    truth = [predicted(open_networks(pack), pack, clip)[0] for clip in clips]
    still = Trial(model, config, [black], zip(truth, clips, strict=True))
    before = (folder / "pack.json").read_bytes()
    with pytest.raises(ExportError, match=r"8 bits cost \d+\.\d\d points .* 6 clips \(100\.00 % "):
        export_packs(
            model, config, {}, clips[:1], folder, Wanted(("temporal",)),
            Measurement([still], held_out=True),
        )  # fmt: skip
    assert (folder / "pack.json").read_bytes() == before
    assert not folder.with_name("pack-int8").exists()
    with pytest.raises(ExportError, match="no clips to measure the accuracy of 8 bits on"):
        export_packs(model, config, {}, clips[:1], folder, Wanted(("spatial",)))


@pytest.mark.parametrize(("wrong", "refused"), [(0, False), (1, False), (2, True)])
def test_less_than_a_point_is_allowed(wrong: int, refused: bool) -> None:
    labels = [[n % 3] * 3 for n in range(150)]
    truth = [row[0] for row in labels]
    small = [[(row[0] + 1) % 3] * 3 if n < wrong else row for n, row in enumerate(labels)]
    outcomes: dict[Precision, Outcome] = {
        "float32": Outcome(truth, labels),
        "int8": Outcome(truth, small),
    }
    measurement = Measurement([], held_out=True)
    if refused:
        with pytest.raises(ExportError, match=r"8 bits cost 1\.33 points of fused accuracy"):
            cost_of_int8(outcomes, measurement)
    else:
        cost = cost_of_int8(outcomes, measurement)
        assert cost.agreement == pytest.approx(1 - wrong / 150)
        assert cost.drop_points == pytest.approx(100 * wrong / 150)


def test_calibration_takes_steps_from_all_over_the_clips() -> None:
    config = tiny_config()
    clips = [drifting_clip(config, 70, seed) for seed in range(4)]
    rows = calibration_rows(clips, 3)
    assert rows["spatial"].shape == (CALIBRATION_ROWS, 32, 32, 3)
    assert rows["temporal"].shape == (CALIBRATION_ROWS, 3, 16, 16, 2)
    np.testing.assert_array_equal(rows["spatial"][0], clips[0].pictures[0])
    np.testing.assert_array_equal(rows["spatial"][-1], clips[-1].pictures[-1])


def test_a_network_is_left_as_it_was_and_its_own_precision_read() -> None:
    model, config = small_model_of(tiny_config())
    graphs = export_graphs(model, config)
    before = graphs["temporal"].SerializeToString()
    rows = calibration_rows([drifting_clip(config, 8)], 3)
    assert precision_of(to_int8("temporal", graphs["temporal"], rows["temporal"])) == "int8"
    assert precision_of(to_float16(graphs["temporal"])) == "float16"
    assert graphs["temporal"].SerializeToString() == before
    assert precision_of(graphs["temporal"]) == "float32"


def test_every_network_of_every_pack_is_timed(packs: Packs) -> None:
    times = milliseconds({"float32": packs["float32"]})
    assert times["float32"].keys() == set(NETWORKS)
    assert all(0 < value < 1000 for value in times["float32"].values())
