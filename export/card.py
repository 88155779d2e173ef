"""The model card: what a pack is, its data and licence, its accuracy, how to make it again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.model.pack import (
    NETWORKS,
    Contract,
    Parity,
    Precisions,
)
from pipeline.program import command

CARD_FILE = "MODEL_CARD.md"
MEGABYTE = 1e6


@dataclass(frozen=True)
class Variant:
    """One of the packs that were exported together.

    ``bytes`` counts its three networks. ``milliseconds`` is the CPU time of each network on the
    machine that exported it. ``top1`` is the accuracy of the fused scores and of each stream's;
    empty where it wasn't measured.
    """

    precision: Precisions
    parity: Parity
    bytes: int
    milliseconds: Mapping[str, float]
    top1: Mapping[str, float]


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else "not measured"


def _folds(metrics: Mapping[str, object]) -> list[str]:
    folds = metrics.get("top1_per_fold")
    if isinstance(folds, list):
        return [
            f"Top-1 over {metrics['clips']} clips, each predicted by a model of the same recipe "
            f"that was trained without its group of clips ({metrics['folds']} folds). The shipped "
            "weights were then trained on all clips, so they can't be measured on these."
        ]
    if metrics.get("held_out"):
        return [f"Top-1 over {metrics['clips']} clips, by models that weren't trained on them."]
    return [
        f"Top-1 over {metrics['clips']} clips **of the training list**: this says that nothing is "
        "broken, not how good the pack is."
    ]


def _accuracy(metrics: Mapping[str, object]) -> list[str]:
    top1, folds = metrics.get("top1"), metrics.get("top1_per_fold")
    if not isinstance(top1, dict):
        return ["Not measured: the checkpoint carries no figures."]
    lines = [
        *_folds(metrics),
        *((str(metrics["note"]),) if "note" in metrics else ()),
        "",
        f"Protocol: {metrics.get('protocol', 'not stated')}.",
        "",
        "| scores | top-1 |",
        "| --- | --- |",
        *(f"| {stream} | {_percent(value)} |" for stream, value in top1.items()),
    ]
    if isinstance(folds, list):
        each = ", ".join(_percent(value) for value in folds)
        lines += ["", f"Fused, fold by fold: {each}."]
    return lines


def _confusion(metrics: Mapping[str, object], labels: Sequence[str]) -> list[str]:
    matrix = metrics.get("confusion")
    if not isinstance(matrix, list):
        return []
    return [
        "",
        "| true \\ predicted | " + " | ".join(labels) + " |",
        "| --- |" + " --- |" * len(labels),
        *(
            f"| {label} | " + " | ".join(str(count) if count else "" for count in row) + " |"
            for label, row in zip(labels, matrix, strict=True)
        ),
    ]


def _streams(metrics: Mapping[str, object]) -> list[str]:
    lines = []
    for key, what in (
        ("rendered_streams", "rendered streams of the demo camera, of other seeds than trained on"),
        ("looped_clips", "held-out clips played one after the other without a pause"),
    ):
        figures = metrics.get(key)
        if isinstance(figures, dict) and figures["gestures"]:
            lines.append(
                f"- {what}: {figures['found']} of {figures['gestures']} actions reported with the "
                f"right label, {figures['false_events_per_minute']} false events per minute, "
                f"F1 {figures['f1']:.2f} "
                f"({figures['minutes']} minutes, all folds)"
            )
    quiet = metrics.get("negatives")
    if isinstance(quiet, dict) and quiet["minutes"]:
        lines.append(
            f"- held-out footage that shows no label: {quiet['false_events']} false events in "
            f"{quiet['minutes']} minutes"
        )
    note = str(metrics.get("thresholds_note", ""))
    return ["", "As events:", "", *lines, "", note] if lines else []


def _parity(contract: Contract) -> list[str]:
    parity = contract.parity
    if parity.tolerance is None:
        held_to = (
            "This pack has 8-bit networks, so its accuracy is compared instead: see below. Before "
            "they were rounded, the same networks agreed to 0.001."
        )
    else:
        held_to = f"The export writes nothing if it is beyond {parity.tolerance:g}."
    stepped = "not measured" if parity.stepped is None else f"{parity.stepped:.1e}"
    return [
        f"Largest difference between torch and onnxruntime over {parity.samples} real clips, each "
        f"network fed by the ones before it in its own runtime. {held_to}",
        "",
        "| output | largest difference |",
        "| --- | --- |",
        *(f"| {name.replace('.', ': ')} | {value:.1e} |" for name, value in parity.outputs.items()),
        f"| stepped along the clip, against torch's one pass | {stepped} |",
        "",
        f"They agree on the first label of {_percent(parity.top1_agreement)} of steps.",
    ]


def _precisions(contract: Contract, variants: Sequence[Variant]) -> list[str]:
    lines = [
        "",
        "Milliseconds are medians of CPU time for one step of one camera on the machine that "
        "exported the pack. float16 is for GPUs: CPUs convert it and compute in float32.",
        "",
        "| spatial / temporal / fusion | size | " + " | ".join(f"{n}, ms" for n in NETWORKS)
        + " | fused | spatial | temporal | largest difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for variant in variants:
        kinds = " / ".join(getattr(variant.precision, network) for network in NETWORKS)
        cells = [f"{variant.bytes / MEGABYTE:.1f} MB"]
        cells += [f"{variant.milliseconds[network]:.2f}" for network in NETWORKS]
        cells += [_percent(variant.top1.get(name)) for name in ("fused", "spatial", "temporal")]
        worst = max(getattr(variant.parity, network) for network in NETWORKS)
        lines.append(f"| {kinds} | {' | '.join(cells)} | {worst:.1e} |")
    if (cost := contract.quantised) is not None:
        whose = "held out from the models measured" if cost.held_out else "of the training list"
        lines += [
            "",
            f"8 bits: ranges from the {cost.calibration}; accuracy over {cost.clips} clips "
            f"{whose}, a fall of {cost.drop_points:.2f} points. Both predict the same label for "
            f"{_percent(cost.agreement)} of the clips. On x86 CPUs without VNNI the scores are the "
            "same, but float32 is usually faster.",
        ]
    return lines


VIEWS = {
    "frame": "",
    "moving": " It looks at the one part of the picture that moves (`view: moving`): appearance at "
    "full resolution, motion less the camera's own.",
    "person": " It looks at each person by itself (`view: person`), whom the person detector finds "
    "and tracks follow: appearance at full resolution, motion less the camera's own. Everybody has "
    "scores and events of their own; a clip has those of its best subject.",
}
"""What the card says of a view; nothing of the whole frame, as before there were views."""


def _what(contract: Contract) -> str:
    spatial, temporal = contract.spatial, contract.temporal
    return (
        f"A two-stream network over steps of {contract.step_hz:g} Hz and a window of "
        f"{contract.window} steps. Appearance: {spatial.backbone} on "
        f"{spatial.size[1]}×{spatial.size[0]} pictures. Motion: {temporal.backbone} on stacks of "
        f"{temporal.stack} {temporal.method} flow fields of {temporal.size[1]}×{temporal.size[0]}. "
        f"Fusion: {contract.fusion.kind}, then {contract.fusion.aggregator}."
        f"{VIEWS[contract.view]}"
    )


def model_card(contract: Contract, variants: Sequence[Variant]) -> str:
    """The card of a pack, in Markdown.

    ``variants`` are the packs that were exported together, this one among them. Everything else
    comes from the contract.
    """
    background = ", ".join(contract.background)
    lines = [
        f"# {contract.name} {contract.version}",
        "",
        f"Labels: {', '.join(contract.labels)}. {background} stands for no action and makes no "
        "event.",
        "",
        "## What it is",
        "",
        _what(contract),
        "",
        "## Data and licence",
        "",
        contract.provenance,
        "",
        f"Licence: {contract.licence}.",
        "",
        "## How good it is",
        "",
        *_accuracy(contract.metrics),
        *_confusion(contract.metrics, contract.labels),
        *_streams(contract.metrics),
        "",
        "## Does it compute what was trained",
        "",
        *_parity(contract),
        "",
        "## Precisions",
        *_precisions(contract, variants),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in contract.limits),
        f"- Actions longer than the window ({contract.window / contract.step_hz:g} s) are seen "
        "in part.",
        "- Not for decisions about people.",
        "",
        "## How to make it again",
        "",
        "```",
        f"{command('train')} --config configs/train/{contract.name}.yaml --data DATA --folds all",
        _command(contract),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _command(contract: Contract) -> str:
    run = f"runs/{contract.name}"
    line = f"{command('export')} --checkpoint {run}/final.pt --data DATA "
    line += f"--out models/{contract.name}"
    small = [name for name in NETWORKS if getattr(contract.precision, name) == "int8"]
    if small:
        line += f" --int8 {','.join(small)} --folds {run}"
    if "float16" in dict(contract.precision).values():
        line += " --fp16"
    if ":" in contract.spatial.backbone:
        line += f" --spatial-module {contract.spatial.backbone} --spatial-weights WEIGHTS"
    return line
