"""Writes a taught pack: the base's networks, the fitted head, the contract and a card."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from pydantic import ValidationError

from pipeline.arrays import Vector
from pipeline.errors import PackError, TwoStreamError, os_reason
from pipeline.model.pack import (
    CONTRACT_FILE,
    METADATA_KEY,
    NETWORKS,
    Contract,
    FusionContract,
    ModelPack,
    Parity,
    Threshold,
    ViewName,
    file_sha256,
    first_problem,
    network_file,
)
from pipeline.model.session import Network
from pipeline.steps.window import FeatureWindow, score_windows
from teach.base import Base
from teach.features import ClipFeatures
from teach.fit import Head, StreamHead, softmax
from teach.head_graph import head_graph
from teach.streams import Labels
from teach.trial import Looks

CARD_FILE = "MODEL_CARD.md"
TOLERANCE = 1e-3
"""Largest difference of a score between numpy, which the head was fitted with, and onnxruntime."""


class TeachError(TwoStreamError):
    """A pack that can't be taught, or must not be written; the message says why."""


@dataclass(frozen=True)
class Origin:
    """Where the clips are from, under which licence the pack is, and what it can't do."""

    provenance: str = "Taught on the user's own clips."
    licence: str = "the user's own; the networks are under Apache-2.0"
    limits: tuple[str, ...] = ()

    @classmethod
    def of(cls, provenance: str, licence: str, limits: Sequence[str]) -> "Origin":
        """What is empty is as by default."""
        return cls(provenance or cls.provenance, licence or cls.licence, tuple(limits))


def origin_of(contract: Contract, base: Base, looks: Looks) -> Origin:
    """The origin of a pack that is fitted again."""
    return Origin(
        contract.provenance.removesuffix(_of_networks(base, looks)),
        contract.licence,
        contract.limits,
    )


def _of_networks(base: Base, looks: Looks) -> str:
    spatial, temporal = base.spatial(looks.appearance), base.temporal(looks.motion)
    return f" Appearance: {spatial.provenance} Motion: {temporal.provenance}"


@dataclass(frozen=True)
class Taught:
    """All that a pack is made of."""

    name: str
    version: str
    base: Base
    looks: Looks
    head: Head
    labels: Labels
    window: int
    thresholds: Mapping[str, Threshold]
    metrics: Mapping[str, object]
    origin: Origin = field(default_factory=Origin)
    view: ViewName = "frame"


def cooled(head: Head, heat: float) -> Head:
    """The head whose logits are divided by ``heat``."""
    streams = tuple(
        StreamHead(
            one.blocks, one.spans, one.mean, one.scale, one.limit, one.weights / heat,
            one.own_weights / heat, one.own_bias / heat,
        )
        for one in head.streams
    )  # fmt: skip
    return Head((streams[0], streams[1]), head.bias / np.float32(heat))


def write(
    taught: Taught,
    folder: Path,
    sample: Sequence[ClipFeatures],
    card: str,
    more: Mapping[str, bytes] | None = None,
) -> ModelPack:
    """Write a pack and load it. It replaces the folder's pack at once, or not at all.

    ``sample`` are clips on which the pack must score as the head that was fitted. ``more`` are
    files that lie beside the pack's own, by name. Raises :class:`TeachError`.
    """
    sizes = tuple(
        taught.base.streams[name].feature_size
        for name in (taught.looks.appearance, taught.looks.motion)
    )
    graphs = _graphs(taught, (sizes[0], sizes[1]))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = _checked(taught, Path(scratch), graphs, sample)
            (made.folder / CARD_FILE).write_text(card, "utf-8")
            for name, content in (more or {}).items():
                (made.folder / name).write_bytes(content)
            _put_in_place(made.folder, folder)
    except OSError as error:
        raise TeachError(f"{folder}: can't be written: {os_reason(error)}") from None
    return ModelPack.load(folder)


def _checked(
    taught: Taught,
    scratch: Path,
    graphs: Mapping[str, onnx.ModelProto],
    sample: Sequence[ClipFeatures],
) -> ModelPack:
    """The pack in ``scratch``, which scores as the head that was fitted."""
    trial = _written(scratch / "trial", graphs, _contract(taught, _parity(0.0, 0)))
    worst = largest_difference(taught, trial, sample)
    try:
        contract = _contract(taught, _parity(worst, len(sample)))
    except ValidationError as error:
        raise TeachError(
            f"the pack doesn't score as the head that was fitted: {first_problem(error)}"
        ) from None
    made = _written(scratch / "pack", graphs, contract)
    try:
        for network in NETWORKS:
            Network(made, network)
    except PackError as error:
        raise TeachError(f"the pack can't be run: {error}") from None
    return made


def check_writable(folder: Path, what: str) -> None:
    """Raise :class:`TeachError`, which begins with ``what``, unless files can be written there.

    The folder is made if it isn't there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TeachError(f"{what}: can't be written: {os_reason(error)}") from None


def check_name(name: str) -> None:
    """Raise :class:`TeachError` for a name that a pack can't have."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise TeachError(
            f"--name {name!r}: expected small letters a to z, figures, - and _, such as 'door-1'"
        )


def _put_in_place(made: Path, folder: Path) -> None:
    """Two renames: a kill between them leaves the old pack beside its place, not half a new one."""
    if folder.exists():
        old = made.parent / "old"
        folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    else:
        made.rename(folder)


def _graphs(taught: Taught, sizes: tuple[int, int]) -> dict[str, onnx.ModelProto]:
    streams = taught.base.streams
    return {
        "spatial": onnx.load(taught.base.folder / streams[taught.looks.appearance].file),
        "temporal": onnx.load(taught.base.folder / streams[taught.looks.motion].file),
        "fusion": head_graph(taught.head, sizes, len(taught.labels.names)),
    }


def _written(folder: Path, graphs: Mapping[str, onnx.ModelProto], contract: Contract) -> ModelPack:
    """Nothing but the metadata differs from the base: packs on one base share its networks."""
    folder.mkdir()
    for network in NETWORKS:
        graph = graphs[network]
        del graph.metadata_props[:]
        graph.metadata_props.add(key=METADATA_KEY, value=contract.metadata_json())
        onnx.save(graph, folder / network_file(network))
    hashes = {network_file(n): file_sha256(folder / network_file(n)) for n in NETWORKS}
    hashed = contract.model_copy(update={"sha256": hashes})
    (folder / CONTRACT_FILE).write_text(hashed.model_dump_json(indent=2) + "\n", "utf-8")
    try:
        return ModelPack.load(folder)
    except PackError as error:
        raise TeachError(str(error)) from None


def _parity(worst: float, samples: int) -> Parity:
    return Parity(
        spatial=0.0, temporal=0.0, fusion=worst, tolerance=TOLERANCE, top1_agreement=1.0,
        samples=samples,
    )  # fmt: skip


def _contract(taught: Taught, parity: Parity) -> Contract:
    spatial = taught.base.spatial(taught.looks.appearance)
    temporal = taught.base.temporal(taught.looks.motion)
    return Contract(
        name=taught.name,
        version=taught.version,
        licence=taught.origin.licence,
        provenance=taught.origin.provenance + _of_networks(taught.base, taught.looks),
        labels=taught.labels.names,
        background=taught.labels.background,
        view=taught.view,
        step_hz=taught.labels.step_hz,
        window=taught.window,
        feature_size=spatial.feature_size,
        temporal_feature_size=temporal.feature_size,
        spatial=spatial.contract,
        temporal=temporal.contract,
        fusion=FusionContract(kind="concat", aggregator="pooled"),
        thresholds=dict(taught.thresholds),
        parity=parity,
        metrics=dict(taught.metrics),
        limits=taught.origin.limits,
    )


def largest_difference(taught: Taught, pack: ModelPack, sample: Sequence[ClipFeatures]) -> float:
    """Largest difference of a fused score at the end of clips, pack against fitted head."""
    from teach.examples import Window, Windows

    looks = (taught.looks.appearance, taught.looks.motion)
    windows = Windows(taught.base, looks, taught.window, taught.head.streams[0].spans)
    pooled = windows.pooled([Window(clip, clip.steps) for clip in sample])
    expected = softmax(taught.head.logits([pooled[name] for name in looks]))
    run = Network(pack, "fusion").run
    worst = 0.0
    for clip, row in zip(sample, expected, strict=True):
        scored = score_windows(run, [_window(pack.contract, clip, looks)])[0]
        if scored is None:
            return float("inf")
        worst = max(worst, float(np.abs(scored.scores - row).max()))
    return worst


def _window(contract: Contract, clip: ClipFeatures, looks: tuple[str, str]) -> FeatureWindow:
    window = FeatureWindow(contract.window, contract.feature_sizes)
    for step in range(clip.steps):
        vectors = [_vector(clip, name, step) for name in looks]
        window.push(0, step, vectors[0], vectors[1])
    return window


def _vector(clip: ClipFeatures, name: str, step: int) -> Vector | None:
    return clip.streams[name][step] if clip.present[name][step] else None
