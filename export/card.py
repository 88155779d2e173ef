"""The model card: what a pack is, where it comes from, how good it is, how to make it again."""

from collections.abc import Mapping, Sequence

from pipeline.model_pack import Contract

CARD_FILE = "MODEL_CARD.md"


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else "not measured"


def _accuracy(metrics: Mapping[str, object]) -> list[str]:
    top1, folds = metrics.get("top1"), metrics.get("top1_per_fold")
    if not isinstance(top1, dict) or not isinstance(folds, list):
        return ["Not measured: the checkpoint carries no figures."]
    each = ", ".join(_percent(value) for value in folds)
    return [
        f"Top-1 over {metrics['clips']} clips, each predicted by a model of the same recipe that",
        f"was trained without its group of clips ({metrics['folds']} folds). The shipped weights",
        "were then trained on all clips, so they can't be measured on these.",
        *((str(metrics["note"]),) if "note" in metrics else ()),
        "",
        "| scores | top-1 |",
        "| --- | --- |",
        *(f"| {stream} | {_percent(value)} |" for stream, value in top1.items()),
        "",
        f"Fused, fold by fold: {each}.",
    ]


def _confusion(metrics: Mapping[str, object], labels: Sequence[str]) -> list[str]:
    matrix = metrics.get("confusion")
    if not isinstance(matrix, list):
        return []
    return [
        "",
        "| true \\ said | " + " | ".join(labels) + " |",
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
                f"- {what}: {figures['found']} of {figures['gestures']} gestures reported with the "
                f"right label, {figures['false_events_per_minute']} false events a minute "
                f"({figures['minutes']} minutes, all folds)"
            )
    note = str(metrics.get("thresholds_note", "The thresholds were fitted on these very streams."))
    return ["", "As events:", "", *lines, "", note] if lines else []


def model_card(contract: Contract) -> str:
    """The card of a pack, in Markdown; everything in it is from its contract."""
    parity = contract.parity
    labels = ", ".join(contract.labels)
    background = ", ".join(contract.background)
    lines = [
        f"# {contract.name} {contract.version}",
        "",
        f"Labels: {labels}. Of these, {background} means nothing and makes no event.",
        "",
        "## What it is",
        "",
        f"A two-stream network over steps of {contract.step_hz:g} Hz and a window of "
        f"{contract.window} steps. Appearance: {contract.spatial.backbone} on "
        f"{contract.spatial.size[1]}×{contract.spatial.size[0]} pictures, frozen, with a trained "
        f"head. Motion: {contract.temporal.backbone} on stacks of {contract.temporal.stack} "
        f"{contract.temporal.method} flow fields of "
        f"{contract.temporal.size[1]}×{contract.temporal.size[0]}. Fusion: {contract.fusion.kind}, "
        f"then {contract.fusion.aggregator}.",
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
        "torch and onnxruntime differ by at most "
        f"{max(parity.spatial, parity.temporal, parity.fusion):.1e} on {parity.samples} real clips "
        f"and agree on the first label of {_percent(parity.top1_agreement)}.",
        "",
        "## Limits",
        "",
        "- Trained on one hand, seen from about arm's length, in some twenty scenes; a moving "
        "camera, several hands or a hand far away weren't trained.",
        "- A gesture is known when it is nearly complete; long ones can begin like short ones "
        "(a star begins as an upward stroke does).",
        f"- Gestures longer than the window ({contract.window / contract.step_hz:g} s) are seen "
        "in part.",
        "- Not for decisions about people.",
        "",
        "## How to make it again",
        "",
        "```",
        f"python -m training train --config configs/train/{contract.name}.yaml --data DATA "
        "--folds all",
        f"python -m export --checkpoint runs/{contract.name}/final.pt --data DATA "
        f"--out models/{contract.name}",
        "```",
    ]
    return "\n".join(lines) + "\n"
