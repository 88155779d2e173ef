"""The card of the base: what its streams are, where they are from, what they cost and can't do."""

from collections.abc import Mapping
from typing import Any

from pipeline.program import command

CARD_FILE = "MODEL_CARD.md"

NOTES = {
    "hands": (
        "Up to two hands in each frame: whether a hand is there, how its fingers are held, where "
        "it is, and an inner layer of the hand network. The more open hand comes first. A hand is "
        "found anew in each frame.",
        "A frame without a hand costs the palm detector alone, about 17 ms of one core; each hand "
        "adds about 27 ms, since its network runs twice: the second time on the region that the "
        "first time's landmarks make. Fingers that point at the camera, hands that move fast and "
        "hands far away are missed more often.",
    ),
    "body": (
        "The largest person in each frame: posture, where the joints are, how visible they are, "
        "and the body's box. A person is found anew in each frame.",
        "A frame with nobody costs the pose detector alone, about 16 ms of one core; a person adds "
        "about 15 ms. It "
        "follows one body: where several people stand alike, it may change between them. The "
        "detector looks for a face and a trunk, so people who lie or turn away are missed more "
        "often.",
    ),
}
"""By stream: what it tells, and its cost and limits. Other streams have their entries alone."""


def model_card(base: Mapping[str, Any]) -> str:
    """The card as Markdown, of what base.json says."""
    lines = [
        f"# {base['name']} {base['version']}: what taught packs are made of",
        "",
        "Networks that turn frames or motion into numbers, without any training here. A taught "
        "pack takes one stream of appearance and one of motion, and learns only how to tell "
        "labels from their numbers.",
        "",
        f"- Licence: {base['licence']}.",
        f"- Origin: {base['provenance']}",
        "",
    ]
    for name, stream in base["streams"].items():
        lines += _stream(name, stream)
    lines += [
        "## Make it again",
        "",
        "```sh",
        "pip install 'two-stream[base]'",
        f"{command('export')} base --out models/base",
        "```",
        "",
        "This writes all streams.",
    ]
    return "\n".join(lines) + "\n"


def _stream(name: str, stream: Mapping[str, Any]) -> list[str]:
    what, limits = NOTES.get(name, ("", ""))
    lines = [f"## {name}", ""]
    if what:
        lines += [what, ""]
    lines += [f"- Network: {stream['backbone']}.", f"- Licence: {stream['licence']}."]
    lines.append(f"- Origin: {stream['provenance']}")
    if stream["kind"] == "spatial":
        high, wide = stream["size"]
        fit = "keeps its shape, with black borders" if stream["fit"] == "pad" else "is stretched"
        lines.append(f"- Input: frames of {high}×{wide}, uint8, B G R; the picture {fit}.")
    lines.append(f"- Output: {stream['feature_size']} numbers.")
    return [*lines, "", *([limits, ""] if limits else [])]
