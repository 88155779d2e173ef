"""Rendered motion, the network of ``deep``, its training, its export and its command line."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from training.config import ConfigError
from training.flow import export
from training.flow.__main__ import app
from training.flow.camera import filmed
from training.flow.config import (
    CameraConfig,
    FlowTrainConfig,
    NetworkConfig,
    SceneConfig,
)
from training.flow.export import FlowExportError, export_flow
from training.flow.network import DeepFlow
from training.flow.scenes import (
    FlowField,
    Rendered,
    random_motion,
    render,
    render_many,
    without_hidden,
)
from training.flow.textures import SHAPES, Gray, PhotoError, load_photos, mask
from training.flow.train import (
    FlowCheckpointError,
    batch_of,
    load_checkpoint,
    mean_error,
    save_checkpoint,
    train_flow,
)

CONFIG = Path(__file__).parents[2] / "configs" / "train" / "flow.yaml"
SMALL = SceneConfig(size=(64, 128), objects=(0, 2), near_px=3.0, far=0.0)
CLEAR = CameraConfig(noise=0, light=0, blur=0, smear=0, jpeg=0, still=0)
TINY = NetworkConfig(steps=(1, 1, 1), narrow=8, wide=8, reaches=(1,))


@pytest.fixture(scope="module")
def photos() -> list[Gray]:
    rng = np.random.default_rng(3)
    cells = rng.integers(0, 256, (2, 30, 40), np.uint8)
    return [np.asarray(cv2.resize(c, (320, 240), interpolation=cv2.INTER_CUBIC)) for c in cells]


def tiny_config(**changes: object) -> FlowTrainConfig:
    values: dict[str, object] = {
        "version": "1.0.0", "licence": "Apache-2.0", "provenance": "made by a test",
        "scenes": 24, "held_out": 4, "iterations": 60, "batch": 4, "learning_rate": 0.005,
        "average_decay": 0.9, "scene": SMALL, "camera": CLEAR, "network": TINY,
    }  # fmt: skip
    return FlowTrainConfig.model_validate({**values, **changes})


def misfit(prev: Gray, following: Gray, flow: FlowField) -> float:
    """Median difference in gray levels between the first frame and the second warped back."""
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    back = cv2.remap(following, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    return float(np.median(np.abs(np.asarray(back, np.float32) - prev)))


@pytest.mark.parametrize("seed", range(8))
def test_the_true_flow_takes_the_second_frame_back_to_the_first(
    seed: int, photos: list[Gray]
) -> None:
    scene = render(np.random.default_rng(seed), photos, SceneConfig(still=0.0, least_px=1.0))
    assert misfit(*scene) <= 2
    shifted = scene.flow + np.array([1.5, 1.5], np.float32)
    assert misfit(scene.prev, scene.next, shifted) > misfit(*scene)


def test_a_motion_and_its_inverse_cancel() -> None:
    rng = np.random.default_rng(0)
    wavy = SceneConfig(wavy=1.0, still=0.0)
    y, x = np.mgrid[:192, :256].astype(np.float32)
    for _ in range(20):
        motion = random_motion(rng, (192, 256), wavy, loose=2.5)
        assert len(motion.waves) > 0
        back_x, back_y = motion.inverse(*motion.forward(x, y))
        assert np.hypot(back_x - x, back_y - y).max() < 0.02


def test_scenes_repeat_with_the_seed_and_differ_without(photos: list[Gray]) -> None:
    first, again, other = (render_many(seed, photos, SMALL, 3) for seed in (1, 1, 2))
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.flow, again.flow, equal_nan=True)
    assert not np.array_equal(first.frames, other.frames)
    assert len({frame.tobytes() for frame in first.frames}) == 3


def test_every_shape_covers_something_and_not_everything() -> None:
    for index in range(len(SHAPES)):
        rng = np.random.default_rng(index)
        areas = [mask(rng, (96, 128), 16).mean() for _ in range(40)]
        assert 0 < np.median(areas) < 0.5


def test_what_the_second_frame_does_not_show_has_no_known_flow() -> None:
    flow = np.full((64, 128, 2), (20.0, 0.0), np.float32)
    x = np.arange(200)
    wide = np.tile(np.asarray(128 + 60 * np.sin(x / 9), np.uint8), (64, 1))
    prev, following = wide[:, 20:148], wide[:, :128]
    following = following.copy()
    following[10:20, 60:80] = 0  # something else has come before it
    missing = np.isnan(without_hidden(prev, following, flow)[..., 0])
    assert missing[:, -20:].all()
    assert missing[11:19, 41:59].mean() > 0.9
    assert not missing[30:, :-20].any()


def test_a_camera_that_only_mirrors_keeps_flow_and_frames_together(photos: list[Gray]) -> None:
    scene = render(np.random.default_rng(1), photos, SceneConfig(still=0.0, least_px=2.0))
    seen = set()
    for seed in range(12):
        prev, following, flow = filmed(np.random.default_rng(seed), *scene, CLEAR)
        assert misfit(prev, following, flow) <= 2
        seen.add(prev.tobytes())
    assert len(seen) > 4


def test_a_still_camera_has_no_flow_and_its_frames_differ_by_noise(photos: list[Gray]) -> None:
    scene = render(np.random.default_rng(1), photos, SMALL)
    still = CLEAR.model_copy(update={"still": 1.0, "noise": 200.0})
    prev, following, flow = filmed(np.random.default_rng(3), *scene, still)
    assert not flow.any()
    assert prev.shape == following.shape == (64, 128)
    assert not np.array_equal(prev, following)


def as_tensors(scene: Rendered) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(scene.prev)[None], torch.from_numpy(scene.next)[None]


def test_frames_that_are_alike_have_no_flow_whatever_the_weights(photos: list[Gray]) -> None:
    network = DeepFlow(NetworkConfig()).eval()
    torch.manual_seed(1)
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        prev, following = as_tensors(render(np.random.default_rng(5), photos, SMALL))
        assert network(prev, prev).abs().max() < 1e-3
        assert network(prev, following).abs().max() > 0.1


def test_even_untrained_it_solves_for_a_shift() -> None:
    """Lucas and Kanade's equation does the work; the weights begin at a plain mean of solutions."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (128, 192), np.uint8), (0, 0), 2.0)
    shifted = np.roll(smooth, 3, axis=1)
    network = DeepFlow(NetworkConfig()).eval()
    with torch.inference_mode():
        flow = network(torch.from_numpy(smooth)[None], torch.from_numpy(shifted)[None])
    u, v = flow[0, :, 16:-16, 16:-16].mean((1, 2)).tolist()
    assert u == pytest.approx(3.0, abs=0.2)
    assert v == pytest.approx(0.0, abs=0.2)


@pytest.mark.slow
def test_training_lowers_the_loss_and_the_checkpoint_keeps_the_network(
    photos: list[Gray], tmp_path: Path
) -> None:
    config = tiny_config(scenes=2, batch=2, iterations=80, learning_rate=0.01)
    scenes = render_many(0, photos, config.scene, config.scenes)
    losses: list[float] = []
    network = train_flow(config, scenes, lambda _, loss: losses.append(loss))
    assert len(losses) == config.iterations
    error_px = mean_error(network, scenes)
    assert np.mean(losses[-10:]) < 0.97 * np.mean(losses[:10])
    save_checkpoint(tmp_path / "deep.pt", network, config, error_px)
    again, same_config, same_error = load_checkpoint(tmp_path / "deep.pt")
    assert (same_config, same_error) == (config, error_px)
    assert mean_error(again, scenes) == error_px


def test_a_batch_holds_what_the_camera_saw(photos: list[Gray]) -> None:
    scenes = render_many(0, photos, SMALL, 2)
    prev, following, flow = batch_of(np.random.default_rng(0), scenes, [1, 0, 1], CLEAR)
    assert prev.shape == following.shape == (3, 64, 128)
    assert prev.dtype == following.dtype == torch.uint8
    assert (flow.shape, flow.dtype) == ((3, 2, 64, 128), torch.float32)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "deep.pt"
    if content is None:
        torch.save({"format": 1, "config": "{}", "error_px": 0.0, "weights": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(FlowCheckpointError, match=r"deep\.pt: not a checkpoint"):
        load_checkpoint(path)
    with pytest.raises(FlowCheckpointError, match=r"none\.pt: No such file"):
        load_checkpoint(tmp_path / "none.pt")


@pytest.mark.slow
def test_the_exported_file_says_what_it_is_and_agrees_with_torch(tmp_path: Path) -> None:
    path = tmp_path / "deep.onnx"
    parity, digest = export_flow(DeepFlow(TINY), tiny_config(), 0.5, path)
    assert parity < 1e-3
    assert len(digest) == 64
    graph = onnx.load(path)
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert about["licence"] == "Apache-2.0"
    assert about["provenance"] == "made by a test"
    assert about["version"] == "1.0.0"


@pytest.mark.slow
def test_a_network_that_onnxruntime_computes_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE_PX", 0.0)
    path = tmp_path / "deep.onnx"
    with pytest.raises(FlowExportError, match="disagree by"):
        export_flow(DeepFlow(TINY), tiny_config(), 0.5, path)
    assert not path.exists()


@pytest.mark.slow
def test_the_command_trains_and_exports(photos: list[Gray], tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    text = tiny_config(scenes=6, held_out=2, iterations=2).model_dump_json()
    config.write_text(text)  # JSON is YAML
    for index, photo in enumerate(photos):
        cv2.imwrite(str(tmp_path / f"{index}.png"), photo)
    arguments = ["--config", str(config), "--photos", str(tmp_path), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code == 0, result.output
    assert "px on 2 held-out scenes" in result.stdout
    out = tmp_path / "deep.onnx"
    result = CliRunner().invoke(
        app, ["export", "--checkpoint", str(tmp_path / "deep.pt"), "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "SHA-256" in result.stdout
    assert out.exists()


def test_missing_inputs_of_the_command_are_named(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config().model_dump_json())
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments in (
        ["train", "--config", str(config), "--photos", str(empty)],
        ["train", "--config", str(tmp_path / "none.yaml"), "--photos", str(empty)],
        ["export", "--checkpoint", str(tmp_path / "none.pt"), "--out", str(tmp_path / "x.onnx")],
    ):
        assert CliRunner().invoke(app, arguments).exit_code == 2
    with pytest.raises(PhotoError, match="empty: no readable picture"):
        load_photos(empty)
    cv2.imwrite(str(empty / "sky.png"), np.full((48, 64), 200, np.uint8))
    with pytest.raises(
        PhotoError, match=r"empty: no readable picture .* 1 have too little texture"
    ):
        load_photos(empty)
    cv2.imwrite(
        str(empty / "grass.png"), np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)
    )
    assert len(load_photos(empty)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1.0.0\nspeed: 3\n", "licence"),
        ("[", "not YAML"),
        ("- 1\n", "must hold keys such as 'name:'"),
    ],
)
def test_a_bad_configuration_is_refused_with_file_and_key(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml:.* {words}"):
        FlowTrainConfig.load(path)


def test_the_shipped_configuration_is_the_one_of_the_shipped_network() -> None:
    config = FlowTrainConfig.load(CONFIG)
    shipped = onnx.load(CONFIG.parents[2] / "pipeline" / "flow" / "deep.onnx")
    about = {entry.key: entry.value for entry in shipped.metadata_props}
    assert about["version"] == config.version
    assert about["provenance"] == config.provenance
    assert about["licence"] == config.licence
