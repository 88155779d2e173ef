"""The one rule for labels, wherever they are given: packs, recipes, configs, lists of clips."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import Config
from pipeline.errors import EvaluationError
from pipeline.evaluate import clip_list
from pipeline.model.labels import LONGEST, alike, check_distinct, checked, problem_of
from pipeline.model.pack import Contract
from tests.training.tiny import tiny_config
from training.clip_list_formats import DataError
from training.config import ConfigError, TrainConfig
from training.data import labelled_entries

GOOD = [
    "left", "push up", "a", "x" * LONGEST, "Grüßen", "日本", "नमस्ते", "می\u200cرود", "v1.2+b-c_d",
    "on", "10", "-", "_x", ".hidden", "no action",
]  # fmt: skip
BAD = {
    "push/pull": "has '/'",
    "one,two": "has ','",
    "x" * 65: "has 65 characters",
    "": "is empty",
    " ": "begins with a space",
    " left": "begins with a space",
    "left ": "ends with a space",
    "le\tft": r"has the character U\+0009",
    "left\n": r"has the character U\+000A",
    "le\x00ft": r"has the character U\+0000",
    "a\u00a0b": r"has the character U\+00A0",
    "a\u200bb": r"has the character U\+200B",
    "a\u202eb": r"has the character U\+202E",
    "\ud800": r"has the character U\+D800",
    "*": r"has '\*'",
    "person's head": 'has "\'"',
    "a/b,c": "has ',' and '/'",
    ".": "is no name",
    "..": "is no name",
}


def in_a_pack(label: str) -> None:
    values = tiny_config().model_dump(mode="json")
    parity = {"spatial": 0, "temporal": 0, "fusion": 0, "tolerance": 1, "top1_agreement": 1}
    Contract.model_validate({
        **{key: value for key, value in values.items() if key in Contract.model_fields},
        "labels": ["background", label], "thresholds": {}, "metrics": {},
        "fusion": {"kind": "concat", "aggregator": "gru"}, "parity": {**parity, "samples": 1},
    })  # fmt: skip


def in_a_recipe(label: str) -> None:
    tiny_config(labels=["background", label], swaps={}, reversals={})


def in_a_config(label: str) -> None:
    Config.model_validate({
        "cameras": {"door": {"source": "demo:7"}},
        "events": {"thresholds": {label: {"start": 0.5}}},
    })  # fmt: skip


@pytest.mark.parametrize("place", [in_a_pack, in_a_recipe, in_a_config])
def test_the_rule_holds_in_every_place(place: Callable[[str], None]) -> None:
    for label in GOOD:
        place(label)
    for label, words in BAD.items():
        with pytest.raises(ValidationError, match=words) as caught:
            place(label)
        if label != "\ud800":
            assert "letters, digits, spaces and _ . + -, at most 64 characters" in str(caught.value)


@pytest.mark.parametrize("value", [True, False, 8, 1.5, None])
def test_what_yaml_takes_for_something_else_must_be_quoted(value: object) -> None:
    with pytest.raises(ValidationError, match=f"label {value} isn't text; put it into quotes"):
        tiny_config(labels=["background", value])
    with pytest.raises(ValidationError, match="quotes"):
        Config.model_validate({"events": {"thresholds": {value: {"start": 0.5}}}})


def test_an_accent_in_one_character_or_two_is_the_same_label() -> None:
    one, two = "caf\u00e9", "cafe\u0301"
    assert checked(one) == checked(two) == one
    config = tiny_config(
        labels=["background", two], swaps={one: two}, reversals={}, thresholds={one: {}}
    )
    assert (config.labels[1], config.swaps, [*config.thresholds]) == (one, {one: one}, [one])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["left", "left"], "'left' is given more than once"),
        (["caf\u00e9", "cafe\u0301"], "'café' is given more than once"),
        (["wave", "up", "Wave"], "labels 'wave' and 'Wave' look the same; use one of them"),
        (["Straße", "STRASSE"], "look the same"),
        (["می\u200cرود", "میرود"], "look the same"),
    ],
)
def test_labels_that_look_the_same_are_refused(labels: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_distinct([checked(label) for label in labels])
    with pytest.raises(ValidationError, match=words):
        tiny_config(labels=["background", *labels], swaps={}, reversals={})


@given(st.text(max_size=70))
def test_a_checked_label_stays_as_it_is(text: str) -> None:
    try:
        label = checked(text)
    except ValueError:
        return
    assert checked(label) == label
    assert problem_of(label) is None
    assert alike(alike(label)) == alike(label)
    assert not {"/", ",", "\n"} & set(label)


def recipe(folder: Path, text: str) -> TrainConfig:
    path = folder / "tiny.yaml"
    values = tiny_config(swaps={}, reversals={}).model_dump_json(exclude_defaults=True)
    path.write_text(values.replace('["background","left","right"]', text), "utf-8")
    return TrainConfig.load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[background, push/pull]", r"tiny\.yaml: labels\.1: label 'push/pull' has '/'; a label"),
        ("[background, 'a,b']", r"tiny\.yaml: labels\.1: label 'a,b' has ','; a label"),
        ("[background, 10]", r"tiny\.yaml: labels\.1: label 10 isn't text; put it into quotes"),
        ("[background, up, Up]", r"tiny\.yaml: .*labels 'up' and 'Up' look the same"),
    ],
)
def test_a_recipe_names_the_label_before_anything_is_read(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        recipe(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_yes_and_no_are_text_in_a_recipe(tmp_path: Path) -> None:
    assert recipe(tmp_path, "[background, on, no]").labels == ("background", "on", "no")


def test_a_list_names_its_line_and_what_would_be_right(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\na.avi,left\nb.avi,push/pull\nc.avi,Right\n")
    with pytest.raises(
        DataError, match=r"clips\.csv: line 4: label 'Right' must be written 'right'"
    ):
        labelled_entries(tiny_config(), tmp_path, "clips.csv")
    (tmp_path / "clips.csv").write_text("path,label\na.avi,left\nb.avi,push/pull\n")
    with pytest.raises(
        DataError, match=r"push/pull \(1\).*clips\.csv: line 3: label 'push/pull' has '/'; a label"
    ):
        labelled_entries(tiny_config(), tmp_path, "clips.csv")
    # What a list has besides may be called anything.
    found = labelled_entries(tiny_config(), tmp_path, "clips.csv", "skip")
    assert [entry.label for entry, _ in found] == ["left"]


def test_a_folder_is_named(tmp_path: Path) -> None:
    for name in ("left", "one,two"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.avi").touch()
    with pytest.raises(DataError, match=r"set/one,two: label 'one,two' has ','; a label"):
        labelled_entries(tiny_config(), tmp_path, "set")


def test_folders_from_a_mac_have_the_recipes_labels(tmp_path: Path) -> None:
    (tmp_path / "set" / "cafe\u0301").mkdir(parents=True)
    (tmp_path / "set" / "cafe\u0301" / "x.avi").touch()
    config = tiny_config(labels=["background", "caf\u00e9"], swaps={}, reversals={})
    assert [label for _, label in labelled_entries(config, tmp_path, "set")] == [1]
    (entry,) = clip_list.read(tmp_path / "set")
    clip_list.check_labels([entry], ["caf\u00e9"])


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("Left", r"'Left' \(.*clips\.csv:2\); it has left, right; write 'left'"),
        ("push/pull", r"clips\.csv:2\).*; 'push/pull' has '/': a label follows this pattern"),
        ("lefd", "did you mean 'left'"),
    ],
)
def test_evaluation_says_how_to_write_it(tmp_path: Path, label: str, words: str) -> None:
    (tmp_path / "clips.csv").write_text(f"path,label\nx.avi,{label}\n")
    entries = clip_list.read(tmp_path / "clips.csv")
    with pytest.raises(EvaluationError, match=words):
        clip_list.check_labels(entries, ["left", "right"])


def test_evaluation_reads_labels_as_training_does(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\nx.avi, left \ny.avi,cafe\u0301\n", "utf-8")
    labels = ["left", "caf\u00e9"]
    assert [entry.label for entry in clip_list.read(tmp_path / "clips.csv")] == labels
    config = tiny_config(labels=labels, background=["left"], swaps={}, reversals={})
    found = labelled_entries(config, tmp_path, "clips.csv")
    assert [label for _, label in found] == [0, 1]


def test_a_recipe_that_no_pack_can_hold_is_refused() -> None:
    temporal = {**tiny_config().temporal.model_dump(), "method": "raft"}
    with pytest.raises(
        ValidationError, match=r"temporal\.method: must be one of deep, dis, .*raft"
    ):
        tiny_config(temporal=temporal)
