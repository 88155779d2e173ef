"""The card of the person detector: what it is, where it is from, how good it is."""

from pipeline.people.contract import PeopleContract
from pipeline.program import command

CARD_FILE = "MODEL_CARD.md"


def model_card(contract: PeopleContract) -> str:
    """The card as Markdown."""
    longer, multiple = contract.side, contract.multiple
    lines = [
        f"# {contract.name} {contract.version}: person detector",
        "",
        "Finds people in a picture: a box and a score for each. It knows nothing else; of the 80 "
        "classes that the network learned, the other 79 are cut out.",
        "",
        f"- Licence: {contract.licence}.",
        f"- Origin: {contract.provenance}",
        f"- Numbers: {contract.precision}.",
        f"- Input: the picture in its own proportions, {longer} pixels on its longer side, with a "
        f"plain border up to multiples of {multiple}; uint8, B G R. Any other size works too.",
        f"- Least score: {contract.score}. Boxes that overlap by more than {contract.overlap} "
        "(IoU) count as one person.",
        "",
        "## How good it is",
        "",
        *_figures(contract),
        "",
        "## What it can't do",
        "",
        "- People who lie, are seen from above, or hold each other are often missed or merged.",
        "- A person lower than about a tenth of the picture is often missed.",
        "- Things as high and narrow as a person, such as traffic cones, are sometimes taken for "
        "one.",
        "- It says that there is a person, never who it is.",
        "",
        "## Make it again",
        "",
        "```sh",
        "pip install 'two-stream[people]'",
        f"{command('export')} people --out models/people --data DATA \\",
        "    --labels tests/people/labels.json",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _figures(contract: PeopleContract) -> list[str]:
    sets = contract.metrics.get("sets")
    if not isinstance(sets, dict):
        return ["Not measured."]
    return [
        "On frames labelled by hand, at IoU 0.5 and the least score above:",
        "",
        "| frames of | frames | people | recall | false boxes a frame |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {one['frames']} | {one['people']} | {one['recall']:.2f} | "
            f"{one['false_per_frame']:.2f} |"
            for name, one in sets.items()
        ),
        "",
        "Most of these frames are hard: fights, falls, people in bed, sports seen from afar.",
    ]
